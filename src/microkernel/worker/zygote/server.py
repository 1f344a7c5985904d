"""The zygote: the process that workers are forked from, executed with a clean environment, single-threaded, everything
imported.

The zygote is a child subreaper, and so is every worker for what it starts. So a child of the zygote that is not a
worker was left by a dead worker: it is killed, and what it leaves in turn, until nothing is left. Only then is the
worker's exit reported. When the kernel is gone, the zygote kills everything below it and exits.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from math import ceil, inf
from typing import Any, NoReturn

from microkernel.wire.codec import decode, encode
from microkernel.wire.messages import PROTOCOL
from microkernel.worker import process_setup
from microkernel.worker.confine import sandbox
from microkernel.worker.inherited_state import raise_descriptor_limit, reset_signals
from microkernel.worker.main import become_worker, prepare
from microkernel.worker.zygote import immortal
from microkernel.worker.zygote.prefork import PreforkedWorker, receive
from microkernel.worker.zygote.warmup import warm_up

_MAX_REQUEST = 64
# Seconds for which a worker that was just assigned has the processors for itself, before the next one is forked, unless
# that is needed at once.
_SPARE_DELAY = 0.006


class ZygoteServer:
    """Serves the kernel's requests. ``run`` returns when the kernel is gone and nothing is left below."""

    def __init__(self, control: socket.socket, lifeline: int, kernel: int, warm_up: Callable[[], object]) -> None:
        self._control = control
        self._warm_up = warm_up
        self._lifeline = lifeline
        self._kernel = kernel
        self._spare: PreforkedWorker | None = None
        # When the next worker is forked ahead: never (inf) while there is one, or if none could be forked.
        self._spare_due = 0.0
        # The kernel's number of each living worker, by pid.
        self._workers: dict[int, int] = {}
        # Exits that are reported once nothing is left of these workers.
        self._exits: list[dict[str, Any]] = []
        self._sigchld_pipe, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._sigchld_pipe, False)
        signal.signal(signal.SIGCHLD, _on_child_exit)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._swept = 0.0
        self._sweep_cost = 0.0

    def run(self) -> None:
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._sigchld_pipe, self._kernel):
            poll.register(descriptor, select.POLLIN)
        self._send({"ready": PROTOCOL, "pid": os.getpid()})
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._poll_timeout())}
            if self._kernel in ready or (self._control.fileno() in ready and not self._serve()):
                break
            if self._sigchld_pipe in ready:
                _drain(self._sigchld_pipe)
            self._reap()
            if time.monotonic() >= self._sweep_due:
                self._report_exits()
            if time.monotonic() >= self._spare_due:
                self._provide_spare()
        self._kill_all()

    def _serve(self) -> bool:
        """Handle one request. Return False if the kernel has closed its end.

        Its content, one plugin's environment, is in a file that only the child reads, because every later child has a
        copy of this memory, freed parts included.
        """
        data, descriptors = receive(self._control, _MAX_REQUEST)
        if not data:
            return False
        number = decode(data)
        try:
            worker = self._take_spare()
        except OSError as error:
            self._send({"refused": number, "reason": error.strerror})
        else:
            self._workers[worker.pid] = number
            self._send({"forked": number, "pid": worker.pid}, worker.handle)  # first: the worker may take the processor
            worker.assign(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._spare_due = time.monotonic() + _SPARE_DELAY
        return True

    def _take_spare(self) -> PreforkedWorker:
        """Return the worker forked ahead, or fork one if it is missing or has died. Raises OSError if none can be
        forked."""
        self._reap()
        spare, self._spare = self._spare, None
        return spare or self._fork()

    def _provide_spare(self) -> None:
        """Fork the next worker ahead. If none can be forked now, the next request fails."""
        self._spare_due = inf
        with suppress(OSError):
            self._spare = self._fork()
            self._send({"spare": self._spare.pid})

    def _fork(self) -> PreforkedWorker:
        return PreforkedWorker(self._become_child, self._warm_up, self._run_request)

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        process_setup.detach_from_zygote()

    def _run_request(self, request: int, descriptors: list[int]) -> NoReturn:
        become_worker(decode(_read_request(request)), descriptors, self._lifeline)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._workers.pop(pid, None)
            if number is not None:
                self._exits.append({"ended": number, "status": status})
            elif self._spare is not None and pid == self._spare.pid:
                self._spare.close()
                self._spare = None

    def _poll_timeout(self) -> int | None:
        """Return the milliseconds until something is due; None if nothing is."""
        due = min(self._sweep_due, self._spare_due)
        return ceil(max(0.0, due - time.monotonic()) * 1000) if due < inf else None

    @property
    def _sweep_due(self) -> float:
        """When to scan again for what dead workers left: scans take at most a tenth of the time."""
        return self._swept + 10 * self._sweep_cost if self._exits else inf

    def _report_exits(self) -> None:
        """Kill what dead workers left; report their exits when nothing is left."""
        began = time.monotonic()
        left = kill_children(os.getpid(), but={*self._workers, self._spare.pid if self._spare else 0})
        self._swept = time.monotonic()
        self._sweep_cost = self._swept - began
        self._reap()
        if not left:
            exits, self._exits = self._exits, []
            for end in exits:
                self._send(end)

    def _kill_all(self) -> None:
        """Kill until nothing is left: a killed process may leave children, which become the zygote's."""
        self._control.close()
        while kill_children(os.getpid()):
            select.select([self._sigchld_pipe], [], [], 0.05)
            _drain(self._sigchld_pipe)
            self._reap()

    def _send(self, message: dict[str, Any], *descriptors: int) -> None:
        try:
            if descriptors:
                socket.send_fds(self._control, [encode(message)], descriptors)
            else:
                self._control.send(encode(message))
        except OSError:
            return  # the kernel is gone, which the next poll shows


def _on_child_exit(_number: int, _frame: object) -> None:
    """Do nothing: only a signal with a Python handler is written to the wakeup descriptor."""


def kill_children(parent: int, but: Container[int] = ()) -> bool:
    """Kill the children of a process, except ``but``, each as soon as it is seen. Return whether there were any.

    Dead ones that were not waited for count. A process that keeps forking and exiting can be missed by a scan that
    counts the living; but one of its forks is the parent's child, alive or dead, at every moment, and stays listed
    until the parent waits for it. So when there are none, nothing is left.
    """
    found = False
    for child in _children_of(parent):
        if child not in but:
            found = True
            _kill(child)
    return found


def _children_of(parent: int) -> Iterator[int]:
    """Yield the children, newest first, before they can fork.

    The system's list contains all that existed when reading it started: none is removed before its parent has waited
    for it, and new ones are appended. If a system has no such list, all processes are scanned, which takes a hundred
    times as long.
    """
    try:
        with open(f"/proc/{parent}/task/{parent}/children", "rb") as children:
            yield from map(int, reversed(children.read().split()))
    except FileNotFoundError:
        yield from (int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _parent_of(entry) == parent)


def _parent_of(process: str) -> int:
    """Return the parent's pid; 0 if the process is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _read_request(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            continue
    except BlockingIOError:
        return


def main() -> None:
    """Run the zygote.

    Arguments: the level, the guest's image (empty except at the level wasm), the descriptors of the control socket and
    of the lifeline, and the kernel's pid.
    """
    level, image = sys.argv[-5:-3]
    control, lifeline, kernel = (int(argument) for argument in sys.argv[-3:])
    reset_signals()
    raise_descriptor_limit()
    process_setup.adopt_orphans()
    if level in ("sandbox", "wasm"):
        sandbox.prepare()
    if image:
        from microkernel.worker.wasm import runner  # imported here: the engine is an optional dependency

        runner.prepare(image)
    handle = os.pidfd_open(kernel)
    if os.getppid() != kernel:
        sys.exit(f"its parent is process {os.getppid()}, not the kernel: a script must exec the interpreter")
    prepare()
    prepare_worker = _no_warm_up if image else warm_up
    if immortal.is_supported():
        gc.freeze()  # so that the warm-up collects only what it has made
        prepare_worker()  # what a plugin's life adds to caches is shared, too
        gc.unfreeze()
        immortal.make_all_immortal()
    # Without a collection before: it finds little after the imports, and takes a tenth of the start.
    gc.freeze()
    gc.disable()
    ZygoteServer(socket.socket(fileno=control), lifeline, handle, prepare_worker).run()
    os._exit(0)  # the kernel waits for this process to end; freeing each object first would take as long as a fork


def _no_warm_up() -> None:
    """Do nothing: a guest starts with fresh memory, so a warm-up in its worker leaves it nothing."""


if __name__ == "__main__":
    main()
