"""Run one instance in a worker process: the worker, its channel and its output. Base of all levels above `thread`."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from microkernel.errors import KernelError, ProtocolError
from microkernel.hosts.procfs.processes import is_alive, is_stopped, is_waiting, stack_of, statistics_of
from microkernel.hosts.worker import shared_memory
from microkernel.hosts.worker.cgroups import Group
from microkernel.hosts.worker.direct_link import DirectLink
from microkernel.hosts.worker.kernel_channel import ANSWERS, KernelChannel
from microkernel.hosts.worker.output import Output
from microkernel.hosts.worker.reply_sockets import LANES, SPIN_SECONDS, ReplySocket
from microkernel.hosts.worker.socket_pairs import blocking_pair
from microkernel.hosts.worker.temp_dirs import TempDirs
from microkernel.hosts.worker.zygote import ZygoteHandle
from microkernel.kernel import ports
from microkernel.kernel.ports import Audit, Exit, InstanceEvents, MessageSource, Reactor
from microkernel.wire import native
from microkernel.wire.messages import Load, Message, Stop
from microkernel.wire.nonblocking_io import AdaptiveSpin
from microkernel.wire.texts import path_to_text

_BUFFER = 256 * 1024
# Seconds that a worker may live without its channel.
_EXIT_GRACE = 0.25


class WorkerRunner:
    """A worker process with its channel and its output. All methods of ``ports.Runner`` may be called on any thread.

    A level with other needs overrides ``_start_protocol``, ``_exit_of`` and ``_measure``.
    """

    # Seconds for which a list of all plugins reuses the last measurement.
    _statistics_max_age = 1.0
    # Whether the native core may read its frames. Those of a confined worker are hostile, and only Python code reads
    # them.
    _is_read_natively = False

    def __init__(
        self,
        load: Load,
        source: MessageSource,
        events: InstanceEvents,
        reactor: Reactor,
        temp_dirs: TempDirs,
        folder: str,
    ) -> None:
        self._load: Load | None = load
        self._events = events
        self._reactor = reactor
        self._temp_dirs = temp_dirs
        self._folder = folder
        self._segments_before = shared_memory.existing_segments()
        self._segments: set[str] = set()
        self._pid: int | None = None
        self._group: Group | None = None
        # How many of its processes the system killed because the group's memory was used up.
        self._memory_kills = 0
        self._limited: frozenset[str] = frozenset()
        self._handle = -1
        # Time and result of the last measurement.
        self._measured: tuple[float, Mapping[str, Any]] = (-math.inf, {})
        self._handle_lock = threading.Lock()
        self._exit_requested = False
        self._closed = False
        endpoints = _Endpoints()
        (down, self._worker_down), (up, self._worker_up) = endpoints.down, endpoints.up
        self._channel = KernelChannel(down, up, source, reactor, events.received, self._malformed, self._hung_up)
        self._reply_pairs = endpoints.lanes
        self._free: deque[ReplySocket] = deque()
        self.wake, self.pump = self._channel.post_pump, self._channel.pump
        self.native_channel = self._channel if self._is_read_natively else None
        spin = AdaptiveSpin(SPIN_SECONDS, yields=True)
        read = native.core.read_reply if native.core is not None and self._is_read_natively else None
        self._reply_sockets = [
            ReplySocket(i, self, ours, self._free, reactor, events.received, self._malformed, self.drain, spin, read)
            for i, (ours, _) in enumerate(self._reply_pairs)
        ]
        self._free.extend(self._reply_sockets)
        self._pipes = endpoints.pipes
        self._outputs = [
            Output(_nonblocking(pipe[0]), reactor, emit, events.secrets)
            for pipe, emit in zip(self._pipes, (self._emit_stdout, self._emit_stderr), strict=True)
        ]

    def start(self, zygote: ZygoteHandle, request: Mapping[str, Any]) -> None:
        """Have the zygote fork the worker. Raises IsolationUnavailable; nothing is left open then."""
        self._limited = frozenset(name for name, value in request["limits"].items() if value)
        theirs = [self._worker_down.fileno(), self._worker_up.fileno(), *(pipe[1] for pipe in self._pipes)]
        theirs += [lane.fileno() for _, lane in self._reply_pairs]
        theirs += self._extra_descriptors()
        try:
            fork = zygote.fork(request, theirs, self._ended)
        except BaseException:
            self._reactor.post(self._close)
            raise
        finally:
            self._worker_down.close()
            self._worker_up.close()
            for pipe in self._pipes:
                os.close(pipe[1])
            for _, lane in self._reply_pairs:
                lane.close()
        group = zygote.groups.claim(fork.pid)
        group.limit(*self._group_limits())
        with self._handle_lock:
            self._pid = fork.pid
            self._group = group
            if self._closed:
                os.close(fork.handle)
                group.end()
            else:
                self._handle = fork.handle
        self._reactor.post(self._open)

    @property
    def pid(self) -> int | None:
        return self._pid

    def send(self, message: Message) -> None:
        if isinstance(message, Stop):
            self._note_shared_memory()
        send = self._channel.send_up if isinstance(message, ANSWERS) else self._channel.send_down
        self._reactor.submit(partial(send, message))

    def lane(self) -> ReplySocket | None:
        try:
            lane = self._free.popleft()
        except IndexError:
            return None
        return lane.take()

    def direct_link(self, number: int) -> DirectLink | None:  # noqa: ARG002 - only the level ``process`` has them
        return None

    def join_direct(self, number: int, link: ports.DirectLink) -> bool:  # noqa: ARG002
        return False

    def drain(self, drained: Callable[[], object]) -> None:
        if self._closed:
            drained()
        else:
            self._channel.drain(drained)

    def request_exit(self) -> None:
        if not self._exit_requested:
            self._exit_requested = True
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def is_waiting(self) -> bool:
        return self._handle >= 0 and self._pid is not None and is_waiting(self._pid)

    def is_stopped(self) -> bool:
        return self._handle >= 0 and self._pid is not None and is_stopped(self._pid)

    def stack(self) -> str:
        if self._pid is None or self.is_stopped():
            return ""
        return stack_of(self._pid, self._signal)

    def statistics(self, *, recent: bool = False) -> Mapping[str, Any]:
        measured_at, measured = self._measured
        if recent and self._handle >= 0 and time.monotonic() - measured_at < self._statistics_max_age:
            return measured
        lasts = self._is_set_up()
        measured = self._measure()
        if measured and lasts:
            self._measured = (time.monotonic(), measured)
        return measured

    def _is_set_up(self) -> bool:
        """Return whether the worker has applied its limits. What is measured earlier is not reused."""
        return self._channel.hello_received

    def _measure(self) -> Mapping[str, Any]:
        """Return the statistics of the worker; empty if it has exited."""
        return statistics_of(self._pid, self._limited) if self._handle >= 0 and self._pid else {}

    def audit(self) -> Audit:
        return Audit((*self._temp_dirs.leftovers(self._folder), *shared_memory.stale_segments(self._segments)))

    def _note_shared_memory(self) -> None:
        """Record the shared memory segments that the worker has open, just before it is asked to stop.

        Only a living process shows which segments are its own; nothing is known of a worker that was killed or crashed.
        """
        new = shared_memory.existing_segments() - self._segments_before
        if new and self._pid and self._handle >= 0 and is_alive(self._handle):
            self._segments = shared_memory.segments_of(self._pid) & new

    def _signal(self, number: int) -> None:
        with self._handle_lock:  # otherwise the descriptor's number could belong to another worker by now
            if self._handle >= 0:
                try:
                    signal.pidfd_send_signal(self._handle, number)
                except (ProcessLookupError, OSError):
                    return  # it has exited, which the zygote reports

    # On the reactor's thread

    def _open(self) -> None:
        if self._closed:
            return  # the worker died before the reactor came to it
        for output in self._outputs:
            output.open()
        self._channel.open()
        self._start_protocol()

    def _extra_descriptors(self) -> list[int]:
        """Return the worker's ends of the sockets that only this level has, in its order."""
        return []

    def _group_limits(self) -> tuple[int, int, float]:
        """Return the limits of its control group: bytes, processes and threads together, processors; 0 for none.

        At `process` there are none: the group only ends what is left.
        """
        return 0, 0, 0.0

    def _start_protocol(self) -> None:
        """Send the first message: the Load."""
        if self._load is not None:
            self._channel.send_down(self._load.with_paths(path_to_text))

    def _emit_stdout(self, line: str) -> None:
        self._events.output("stdout", line)

    def _emit_stderr(self, line: str) -> None:
        if not _OUR_FRAME.match(line):
            self._events.output("stderr", line)

    def _malformed(self, error: KernelError) -> None:
        self._events.malformed(error)
        self.kill()

    def _hung_up(self) -> None:
        """The other end of the channel is closed, nearly always because the worker exited, which is about to be
        reported."""
        self._reactor.later(_EXIT_GRACE, self._kill_without_channel)

    def _kill_without_channel(self) -> None:
        """Kill a worker that closed its channel and lives on: it closed its descriptors, or became another program."""
        if self._handle >= 0 and is_alive(self._handle):
            self._malformed(ProtocolError("MK0215", reason="the worker closed it but keeps running"))

    def _ended(self, exit: Exit) -> None:
        self.drain(partial(self._finish, exit))  # messages that it sent before it exited count

    def _finish(self, exit: Exit) -> None:
        self._close()
        self._events.ended(self._exit_of(exit))

    def _exit_of(self, exit: Exit) -> Exit:
        """Return the exit to report for this exit of the process."""
        return exit

    def _close(self) -> None:
        """Idempotent, because after the first call its descriptors may belong to something else."""
        if self._closed:
            return
        self._channel.close()
        self._free.clear()
        for lane in self._reply_sockets:
            lane.close()
        for output in self._outputs:
            output.close()
        self._load = None
        self._temp_dirs.remove(self._folder)
        with self._handle_lock:
            self._closed = True
            if self._group is not None:
                self._memory_kills = self._group.oom_kills()
                self._group.end()
            if self._handle >= 0:
                handle, self._handle = self._handle, -1
                os.close(handle)


# A stack frame of this package, which the fault handler of a dying worker prints; of no use to a plugin's author.
_OUR_FRAME = re.compile(rf'  File "({re.escape(str(Path(__file__).parents[2]))}/[^"]*|<string>)", line \d+ in ')


class _Endpoints:
    """Both ends of every socket and pipe between a worker and the kernel.

    Raises OSError, with nothing left open, if there are too few descriptors.
    """

    def __init__(self) -> None:
        with ExitStack() as opened:
            self.down, self.up = (_buffered(_pair(opened)) for _ in range(2))
            self.lanes = [_pair(opened) for _ in range(LANES)]
            self.pipes = _pipe(opened), _pipe(opened)
            opened.pop_all()


Pair = tuple[socket.socket, socket.socket]


def _pair(opened: ExitStack) -> Pair:
    ours, theirs = blocking_pair()
    opened.callback(ours.close)
    opened.callback(theirs.close)
    return ours, theirs


def _buffered(pair: Pair) -> Pair:
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return pair


def _pipe(opened: ExitStack) -> tuple[int, int]:
    pipe = os.pipe()
    for end in pipe:
        opened.callback(os.close, end)
    return pipe


def _nonblocking(descriptor: int) -> int:
    os.set_blocking(descriptor, False)
    return descriptor
