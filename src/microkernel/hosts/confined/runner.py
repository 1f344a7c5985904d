"""Run an instance in a worker that confines itself before it is sent anything, and that is killed over its limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any

from microkernel.errors import ProtocolError, shortage_in
from microkernel.hosts.confined.disk_usage import TooMany, free_space, growth, is_in_memory, measure_disk
from microkernel.hosts.confined.file_attribute_server import FileAttributes
from microkernel.hosts.confined.lock_usage import MAX_LOCKS, count_locks
from microkernel.hosts.confined.network_broker import NetworkBroker
from microkernel.hosts.confined.protections import memory_over, protections_of, threads_over
from microkernel.hosts.confined.request_socket import RequestSocket
from microkernel.hosts.confined.usage_monitor import Check, UsageMonitor
from microkernel.hosts.worker.cgroup_layout import SYSTEM_MEMORY
from microkernel.hosts.worker.runner import WorkerRunner
from microkernel.hosts.worker.temp_dirs import TempDirs
from microkernel.hosts.worker.time_share import TimeShares
from microkernel.hosts.worker.zygote import ZygoteHandle
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Exit, InstanceEvents, LaunchSpec, MessageSource, Reactor
from microkernel.kernel.runtime.token_bucket import TokenBucket
from microkernel.wire.messages import ConfinementReport, Failure, Message
from microkernel.wire.skipping import prepare

# Seconds that a worker that could not be confined has to exit by itself.
_EXIT_GRACE = 1.0


class ConfinedRunner(WorkerRunner):
    """Runs a confined worker.

    ``is_open``: all files were granted, so access to files is not checked. ``require_all_layers``: a worker that lacks
    a layer of confinement is killed before it is sent its plugin. ``report_unopened``: called with the plugin's name, a
    path and the reason for each granted path that could not be opened.
    """

    # The monitor measures about once a second, so a list seldom has to.
    _statistics_max_age = 3.0

    def __init__(
        self,
        spec: LaunchSpec,
        source: MessageSource,
        events: InstanceEvents,
        reactor: Reactor,
        temp_dirs: TempDirs,
        folder: str,
        usage_monitor: UsageMonitor,
        level: Level,
        is_open: bool,
        require_all_layers: bool,
        overhead: int,
        time_shares: TimeShares,
        report_unopened: Callable[[str, str, str], object],
    ) -> None:
        self._folders = [spec.load.data_dir, *([folder] if folder else [])]
        self._requests: list[RequestSocket] = []
        try:
            if level == "sandbox":
                self._requests.append(FileAttributes(self._folders, reactor, self._malformed))
            if net := spec.permissions.net:
                self._requests.append(NetworkBroker(spec.load.name, net, reactor, self._malformed))
            super().__init__(spec.load, source, events, reactor, temp_dirs, folder)
        except BaseException:  # too few descriptors
            for each in self._requests:
                each.discard()
            raise
        self._limits = spec.limits
        self._expected = ("files",) if is_open else ()
        self._usage_monitor = usage_monitor
        self._level = level
        self._require_all_layers = require_all_layers
        self._overhead = overhead
        self._report_unopened = partial(report_unopened, spec.load.name)
        self._confined = ConfinementReport()
        self._is_confined = False
        self._kill_reason = ""
        self._free_before: list[int] = []
        # Free space when its files were last measured, and how much of it may go before they are measured again.
        self._allowed_growth = 0
        frames = spec.limits.get("frames", 0)
        self._account = time_shares.account()
        self._channel.confine(TokenBucket(frames) if frames else None, self._account)
        for output in self._outputs:
            output.charge_to(self._account)
        for requests in self._requests:
            requests.charge_to(self._account)

    def _is_set_up(self) -> bool:
        return self._is_confined

    def _measure(self) -> Mapping[str, Any]:
        statistics = super()._measure()
        if not statistics or self._pid is None:
            return statistics
        found = {"memory": "enforced" if self._level == "wasm" else "watched"}  # a guest's: by the engine
        found["processors"] = "unavailable"
        found.update(protections_of(self._pid, self._confined))
        held = self._group.enforced() if self._group is not None else frozenset()
        found.update(dict.fromkeys(held, "enforced"))
        watched = {"disk": "watched" if self._limits.get("disk") else "unavailable"}
        frames = {"frames": "enforced" if self._limits.get("frames") else "unavailable"}
        around = {"engine": "enforced"} if self._level == "wasm" else {}  # or its worker would have no plugin
        return {**statistics, "protections": {**around, **statistics["protections"], **found, **watched, **frames}}

    def start(self, zygote: ZygoteHandle, request: Mapping[str, Any]) -> None:
        try:
            super().start(zygote, request)
        finally:
            for each in self._requests:
                each.worker_end.close()

    def _extra_descriptors(self) -> list[int]:
        return [each.worker_end.fileno() for each in self._requests]

    def _start_protocol(self) -> None:
        self._channel.handle_with(self._receive_report)

    def _receive_report(self, message: Message) -> None:
        if not isinstance(message, ConfinementReport):
            self._malformed(ProtocolError("MK0215", reason="its first message was not its confinement report"))
            return
        self._confined = message
        self._is_confined = True
        self._channel.handle_with(self._events.received)
        if self._require_all_layers and (reason := defect_of(message, self._expected)):
            failure = Failure("IsolationUnavailable", "MK0501", {"level": self._level, "reason": reason})
            self._events.failed("confine", failure)
            self._reactor.later(_EXIT_GRACE, self.kill)
        else:
            for path, reason in message.unopened_paths.items():
                self._report_unopened(path, reason)
            try:
                self._usage_monitor.add((self, "memory"), self._check_memory, self._check_failed, frequent=True)
                self._usage_monitor.add((self, "files"), self._check_files, self._check_failed)
            except RuntimeError as error:  # no thread is left to check it
                self._kill_reason = shortage_in(error) or str(error)
                self.kill()
                return
            for each in self._requests:
                each.open()
            super()._start_protocol()

    def _check_memory(self) -> Check:
        """Check threads, memory and locks. On the monitor's thread, every second, however many files there are."""
        pid = self._pid
        if pid is None or self._closed:
            return
        over = threads_over(pid, int(self._limits["threads"]))
        over = over or memory_over(pid, int(self._limits["memory"]) + self._overhead)
        yield
        over = over or (yield from _over_locks(pid))
        # Read only now: the other check may have found a reason at one of the steps above.
        self._kill_reason = self._kill_reason or over
        if self._kill_reason:
            self.kill()
        elif growth(self._free_before, free_space(self._folders)) > self._allowed_growth:
            self._free_before = []
            self._usage_monitor.expedite((self, "files"))

    def _check_files(self) -> Check:
        """Check disk usage. On the monitor's thread, less often with many files, unless free space has shrunk."""
        pid = self._pid
        if pid is None or self._closed:
            return
        over = yield from self._over_disk(pid)
        self._kill_reason = self._kill_reason or over
        if self._kill_reason:
            self.kill()
            return
        yield
        self._measured = (time.monotonic(), self._measure())
        prepare()

    def _check_failed(self, error: Exception) -> None:
        """Kill a worker that cannot be measured, and so not be held to its limits. What is read is the worker's
        doing."""
        self._kill_reason = f"its use of memory and disk could not be measured: {type(error).__name__}: {error}"
        self.kill()

    def _over_disk(self, pid: int) -> Generator[None, None, str]:
        limit = int(self._limits.get("disk", 0))
        if not limit:
            return ""
        free = free_space(self._folders)
        try:
            used = yield from measure_disk(self._folders, pid, int(self._limits.get("file_size", 0)), limit)
        except TooMany as error:
            return str(error)
        # Growth by less than this keeps it below its limit, or at most a sixteenth over it.
        self._free_before, self._allowed_growth = free, max((limit - used) // 2, limit // 16)
        return f"over its limit: {used:,} bytes of files, limits.disk is {limit:,}" if used > limit else ""

    def _group_limits(self) -> tuple[int, int, float]:
        memory, threads = int(self._limits["memory"]), int(self._limits["threads"])
        in_memory = int(self._limits.get("disk", 0)) if is_in_memory(self._folders) else 0
        return memory + self._overhead + in_memory + SYSTEM_MEMORY, threads, float(self._limits.get("processors", 0.0))

    def _exit_of(self, exit: Exit) -> Exit:
        if self._memory_kills and not self._kill_reason:
            self._kill_reason = f"over its limit: limits.memory is {int(self._limits['memory']):,}"
        return Exit(self._kill_reason, signal=exit.signal) if self._kill_reason and exit.signal else exit

    def _close(self) -> None:
        self._usage_monitor.remove((self, "memory"))
        self._usage_monitor.remove((self, "files"))
        if not self._closed:
            for each in self._requests:
                each.close()
        super()._close()


def _over_locks(pid: int) -> Generator[None, None, str]:
    locks = yield from count_locks(pid)
    return f"over its bound: more than {MAX_LOCKS:,} locks on files" if locks > MAX_LOCKS else ""


def defect_of(confined: ConfinementReport, expected: Iterable[str] = ()) -> str:
    """Return why a worker is not properly confined; empty if it is."""
    if confined.missing:
        return confined.missing
    failed = [check for check in confined.failed_checks if check not in expected]
    return f"a confinement check failed: {', '.join(failed)}" if failed else ""
