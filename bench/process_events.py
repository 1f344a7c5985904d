"""P7: events to a plugin in a separate process, emitted as fast as possible, checked and handled.

Floor: 64 events encoded at once, in one SEQPACKET datagram, decoded to their types and handled. The peers
send plain messages, which are built in advance, and count them.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, faster, native, pure
from bench.sockets import seqpackets, worker
from bench.thread_events import SUM
from bench.timing import events
from bench.workers.messages import DATAGRAM, Tick, decode_tick, encode

_EVENTS = 20_000
_BATCH = 64
_MESSAGE = encode(Tick(10_000))
_NO_MORE = b""


@contextmanager
def _ours(stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", sum=SUM) as kernel:
        place_workers(kernel, stage)
        yield events(
            lambda number: kernel.emit("bench.tick", number=number),
            lambda: kernel.call("sum.take", timeout=60.0),
            stage.count(_EVENTS),
        )


@contextmanager
def _batches(stage: Workspace) -> Iterator[Measure]:
    with seqpackets() as [(ours, theirs)], worker(stage, "sum_batches", fds=[theirs.fileno()]):
        batch: list[Tick] = []

        def emit(number: int) -> None:
            batch.append(Tick(number))
            if len(batch) == _BATCH:
                send()

        def send() -> None:
            ours.send(encode(batch))
            batch.clear()

        def settle() -> int:
            if batch:
                send()
            send()  # an empty batch requests the sum
            return decode_tick(ours.recv(DATAGRAM)).number

        yield events(emit, settle, stage.count(_EVENTS))


@contextmanager
def _zmq(stage: Workspace) -> Iterator[Measure]:
    import zmq

    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.PAIR) as pair:
        address = f"ipc://{Path(folder) / 's'}"
        pair.linger = 0
        count = stage.count(_EVENTS)

        def settle() -> int:
            pair.send(_NO_MORE)
            return int(pair.recv())

        with worker(stage, "zmq_count", address):
            pair.connect(address)
            yield events(lambda _: pair.send(_MESSAGE), settle, count, sum_of=count)


def _count_pipe(end: Connection) -> None:
    while True:
        count = 0
        while end.recv_bytes() != _NO_MORE:
            count += 1
        end.send(count)


@contextmanager
def _pipe(stage: Workspace) -> Iterator[Measure]:
    spawning, count = multiprocessing.get_context("spawn"), stage.count(_EVENTS)
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_count_pipe, args=(theirs,), daemon=True)
    process.start()

    def settle() -> int:
        ours.send_bytes(_NO_MORE)
        return int(ours.recv())

    settle()  # the process has started
    stage.place_process(process.pid or 0)
    yield events(lambda _: ours.send_bytes(_MESSAGE), settle, count, sum_of=count)
    process.terminate()
    process.join()


ROWS = (
    Row(
        "P7",
        "event to a process plugin, saturated",
        ours=Contender("emit", _ours),
        floor=Contender("SEQPACKET + msgspec, 64 at once", _batches),
        peers=(Contender("zmq PAIR", _zmq, ("zmq",)), Contender("mp.Pipe", _pipe)),
        targets=(
            *pure(faster(1.0, "mp.Pipe")),
            *native(faster(0.5, "zmq PAIR", "same"), faster(1.0, "zmq PAIR", "diff")),
            *native(faster(3.0, "mp.Pipe", "same"), faster(4.0, "mp.Pipe", "diff")),
        ),
        rounds=15,
    ),
)
