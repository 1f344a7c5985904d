"""Measure a plugin on this machine, and next to it the least that does the same: an empty Python process.

Three kinds of work are measured in turns: start; call, compared with one datagram that is answered; emit, compared with
many datagrams. Every answer is checked.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from microkernel.app import Kernel
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import Level, Permissions

WORKS = ("start", "call", "emit")
# Rounds of each work: the minimum, the maximum, and the seconds after which no round beyond the minimum starts.
_LEAST, _ROUNDS, _BUDGET = 3, 9, 0.5
_CALLS = 200
_EVENTS = 1_000
_PAYLOAD = bytes(range(100))
_PATIENCE = 30.0
_DATAGRAM = 65_536

_PLUGIN = """
from microkernel import IPlugin, expose, on
class Plugin(IPlugin):
    def start(self): self.total = 0
    def stop(self): pass
    @expose
    def echo(self, data: bytes) -> bytes: return data
    @on("probe.tick")
    def tick(self, number: int) -> None: self.total += number
    @expose
    def take(self) -> int:
        total, self.total = self.total, 0
        return total
"""
_BARE = """
import socket, sys
end, count = socket.socket(fileno=int(sys.argv[1])), 0
while data := end.recv(65536):
    if data == b"tick":
        count += 1
    else:
        end.send(b"%d" % count if data == b"take" else data)
        count = 0
"""


class WrongAnswer(Exception):
    """A measured operation returned a wrong result."""


class ProbeDriver(Protocol):
    """Return the seconds of one operation: a start to the first answer, a call, an event until it is handled."""

    def start(self) -> float: ...
    def call(self) -> float: ...
    def emit(self) -> float: ...


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Medians: the seconds of one operation of the plugin, of the empty process, and their ratio."""

    seconds: float
    floor: float
    ratio: float


def measure(level: Level) -> dict[str, ProbeResult]:
    """Return the results by work. Raises WrongAnswer, and KernelError if the plugin does not start."""
    with bare_process() as floor, plugin_at(level) as ours:
        return {work: _compared(getattr(ours, work), getattr(floor, work)) for work in WORKS}


def _compared(ours: Callable[[], float], floor: Callable[[], float]) -> ProbeResult:
    pairs: list[tuple[float, float]] = []
    until = time.monotonic() + _BUDGET
    while len(pairs) < _LEAST or (len(pairs) < _ROUNDS and time.monotonic() < until):
        pairs.append((ours(), floor()))
    mine, least = zip(*pairs, strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    return ProbeResult(statistics.median(mine), statistics.median(least), ratio)


class _Plugin:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def start(self) -> float:
        self._kernel.stop("probe")
        began = time.perf_counter()
        self._kernel.start("probe")
        self._echo()
        return time.perf_counter() - began

    def call(self) -> float:
        began = time.perf_counter()
        for _ in range(_CALLS):
            self._echo()
        return (time.perf_counter() - began) / _CALLS

    def emit(self) -> float:
        began = time.perf_counter()
        for number in range(_EVENTS):
            self._kernel.emit("probe.tick", number=number)
        total = self._kernel.call("probe.take", timeout=_PATIENCE)  # comes after the events
        took = time.perf_counter() - began
        _check(total, sum(range(_EVENTS)))
        return took / _EVENTS

    def _echo(self) -> None:
        _check(self._kernel.call("probe.echo", _PAYLOAD, returns=bytes, timeout=_PATIENCE), _PAYLOAD)


class _Process:
    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def start(self) -> float:
        began = time.perf_counter()
        with _bare() as end:
            self._echo(end)
            return time.perf_counter() - began

    def call(self) -> float:
        began = time.perf_counter()
        for _ in range(_CALLS):
            self._echo(self._end)
        return (time.perf_counter() - began) / _CALLS

    def emit(self) -> float:
        began = time.perf_counter()
        for _ in range(_EVENTS):
            self._end.send(b"tick")
        self._end.send(b"take")
        count = self._end.recv(_DATAGRAM)
        took = time.perf_counter() - began
        _check(int(count), _EVENTS)
        return took / _EVENTS

    def _echo(self, end: socket.socket) -> None:
        end.send(_PAYLOAD)
        _check(end.recv(_DATAGRAM), _PAYLOAD)


def _check(answer: object, expected: object) -> None:
    if answer != expected:
        raise WrongAnswer(f"{answer!r:.60} instead of {expected!r:.60}")


@contextmanager
def plugin_at(level: Level) -> Iterator[ProbeDriver]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "probe.py").write_text(_PLUGIN)
        probe = PluginConfig(isolation=level, permissions=Permissions(on=("probe.tick",)))
        config = KernelConfig(
            data_dir=f"{folder}/data", plugin={"probe": probe}, limits={"full_mailbox_timeout": _PATIENCE}
        )
        with Kernel(f"{folder}/probe.py", config) as kernel:
            if (error := kernel.core.registry.get("probe").error) is not None:
                raise error
            yield _Plugin(kernel)


@contextmanager
def bare_process() -> Iterator[ProbeDriver]:
    with _bare() as end:
        yield _Process(end)


@contextmanager
def _bare() -> Iterator[socket.socket]:
    """Run an empty Python process at the other end of a socket. It ends with the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-I", "-c", _BARE, str(theirs.fileno())]
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        ours.settimeout(_PATIENCE)
        theirs.close()
        try:
            yield ours
        finally:
            ours.close()
            process.wait(_PATIENCE)
