"""P11: start of a process plugin, from the request to its first answer, and its private memory while it is idle.

Floor: a bare fork of a process that has msgspec loaded, and one call of P5's floor.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.kernels import kernel_of
from bench.placement import Workspace
from bench.process_call import ECHO
from bench.processes import own_of
from bench.rows import Contender, Measure, Row, Target, Unit, at_most
from bench.sockets import asker, seqpackets, worker
from bench.timing import PAYLOAD, check

_COLD_PEER = "a new Python with msgspec"
# Target of the private memory. Python 3.12 and later have immortal objects, so that workers share more with the zygote.
_MEMORY = 0.3 if sys.version_info >= (3, 12) else 0.6

# Starts a process, checks its first answer, and returns its pid. The process ends with the context.
Start = Callable[[], AbstractContextManager[int]]

# The shortest program that imports msgspec and answers as the floor does.
_COLD = """
import socket, sys, msgspec
end = socket.socket(fileno=int(sys.argv[1]))
while data := end.recv(65536):
    end.send(msgspec.msgpack.encode(msgspec.msgpack.decode(data)[::2]))
"""


@contextmanager
def _plugins(_stage: Workspace) -> Iterator[Start]:
    with kernel_of("process", echo=ECHO) as kernel:

        @contextmanager
        def start() -> Iterator[int]:
            pid = kernel.start("echo").pid
            check(kernel.call("echo.echo", PAYLOAD, returns=bytes), PAYLOAD)
            yield pid or 0
            kernel.stop("echo")

        kernel.stop("echo")
        yield start


@contextmanager
def _forks(stage: Workspace) -> Iterator[Start]:
    with (
        seqpackets(2) as [(control, controlled), (lane, theirs)],
        worker(stage, "forks", fds=[controlled.fileno(), theirs.fileno()]),
    ):

        @contextmanager
        def start() -> Iterator[int]:
            control.send(b"fork")
            _ask(lane)
            yield int(control.recv(64))
            control.send(b"end")
            control.recv(64)

        yield start


@contextmanager
def _cold(_stage: Workspace) -> Iterator[Start]:
    @contextmanager
    def start() -> Iterator[int]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            command = [sys.executable, "-c", _COLD, str(theirs.fileno())]
            with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
                _ask(ours)
                yield process.pid
                process.kill()

    yield start


def _ask(lane: socket.socket) -> None:
    check(asker(lane)(PAYLOAD), PAYLOAD)


@contextmanager
def _forkserver(stage: Workspace) -> Iterator[Measure]:
    """Start the fork server in a separate program, because its children would load all of this one."""
    with (
        seqpackets() as [(control, controlled)],
        worker(stage, "forkserver", fds=[controlled.fileno()]),
    ):

        def measure() -> float:
            control.send(b"start")
            return float(control.recv(64))

        yield measure


def _to_first_answer(starting: Start) -> float:
    began = time.perf_counter()
    with starting():
        return time.perf_counter() - began


def _own_memory(starting: Start) -> float:
    with starting() as pid:
        return own_of(pid)


def _contender(
    name: str, opened: Callable[[Workspace], AbstractContextManager[Start]], of: Callable[[Start], float]
) -> Contender:
    @contextmanager
    def opens(stage: Workspace) -> Iterator[Measure]:
        with opened(stage) as start:
            yield lambda: of(start)

    return Contender(name, opens)


def _row(name: str, of: Callable[[Start], float], target: Target, unit: Unit, rounds: int, *more: Contender) -> Row:
    return Row(
        "P11",
        name,
        ours=_contender("start", _plugins, of),
        floor=_contender("a bare fork", _forks, of),
        peers=(_contender(_COLD_PEER, _cold, of), *more),
        targets=(target,),
        placements=("free",),
        rounds=rounds,
        warm_ups=1,
        unit=unit,
    )


ROWS = (
    _row(
        "start of a process plugin to its first answer",
        _to_first_answer,
        at_most(0.15, _COLD_PEER),
        "s",
        20,
        Contender("multiprocessing, forkserver", _forkserver),
    ),
    _row("memory of its own of an idle process plugin", _own_memory, at_most(_MEMORY, _COLD_PEER), "B", 5),
)
