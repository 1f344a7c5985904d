"""P6: the call of P5, from four threads at once.

Floor: a reply socket for each thread, which reads its own answers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.process_call import ECHO
from bench.reader_thread import reader_thread
from bench.rows import Contender, Measure, Row, faster, native, pure
from bench.sockets import seqpackets, worker
from bench.timing import calls_at_once
from bench.workers.messages import DATAGRAM, Call, decode_answer, encode

CALLERS = 4
# Calls of each caller in one measurement.
_CALLS = 150


@contextmanager
def _ours(stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", echo=ECHO) as kernel:
        place_workers(kernel, stage)

        def echo(data: bytes) -> object:
            return kernel.call("echo.echo", data, returns=bytes)

        with calls_at_once([echo] * CALLERS, stage.count(_CALLS)) as measure:
            yield measure


@contextmanager
def _lanes(stage: Workspace) -> Iterator[Measure]:
    with seqpackets(1 + CALLERS) as pairs:
        (down, _), *lanes = pairs
        with worker(stage, "echo_lanes", fds=[theirs.fileno() for _, theirs in pairs]):
            echoes = [_echo_on(index, down, ours) for index, (ours, _) in enumerate(lanes)]
            with calls_at_once(echoes, stage.count(_CALLS)) as measure:
                yield measure


def _echo_on(index: int, down: socket.socket, lane: socket.socket) -> Callable[[bytes], bytes]:
    """Return a caller. All send on one socket; the number of a call selects the reply socket."""
    number = index

    def echo(data: bytes) -> bytes:
        nonlocal number
        number += CALLERS
        down.send(encode(Call(number, "echo", data)))
        answer = decode_answer(lane.recv(DATAGRAM))
        return answer.data if answer.id == number else b""

    return echo


@contextmanager
def _reader(stage: Workspace) -> Iterator[Measure]:
    with reader_thread(stage) as echo, calls_at_once([echo] * CALLERS, stage.count(_CALLS)) as measure:
        yield measure


ROWS = (
    Row(
        "P6",
        f"call into a process plugin by {CALLERS} callers at once",
        ours=Contender("call", _ours),
        floor=Contender("SEQPACKET, a lane each", _lanes),
        peers=(Contender("a reader thread", _reader),),
        targets=(
            *pure(faster(0.6, "a reader thread", "same"), faster(1.3, "a reader thread", "diff")),
            *native(faster(1.4, "a reader thread", "same"), faster(2.5, "a reader thread", "diff")),
        ),
        rounds=20,
    ),
)
