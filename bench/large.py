"""P10: a large array from one process plugin to another, which checks its content; by calls and by events.

Floor: one copy into shared pages that exist already, because a copy into fresh pages mostly measures their creation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from mmap import mmap
from multiprocessing import get_context
from multiprocessing.connection import Connection

from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, Target, at_most, faster, native, pure
from bench.timing import check, seconds

MEGABYTE = 1_000_000
_PICKLE = "pickle over mp.Pipe"
# Evenly spaced bytes that the receiver must see as they were sent. Each array is filled with new values.
_SAMPLES = 64

SENDER = f"""
import time
from microkernel import IPlugin, expose

class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
    def start(self): pass
    def stop(self): pass
    def fill(self, size):
        if not hasattr(self, "data") or len(self.data) != size:
            self.data = bytearray(size)
        self.number = getattr(self, "number", 0) % 255 + 1
        self.data[:: size // {_SAMPLES}] = bytes([self.number]) * len(range(0, size, size // {_SAMPLES}))
    @expose
    def call(self, count: int, size: int) -> float:
        spent = 0.0
        for _ in range(count):
            self.fill(size)
            began = time.perf_counter()
            seen = self.api.call("receiver.look", self.api.share(self.data), timeout=60.0)
            spent += time.perf_counter() - began
            if seen != self.number:
                raise AssertionError("not what was sent")
        return spent / count
    @expose
    def emit(self, count: int, size: int) -> float:
        self.fill(size)
        self.api.call("receiver.expect", self.number)
        began = time.perf_counter()
        for _ in range(count):
            self.api.emit("frame.taken", data=self.api.share(self.data))
        if self.api.call("receiver.seen", timeout=60.0) != count:
            raise AssertionError("not what was sent")
        return (time.perf_counter() - began) / count
"""
RECEIVER = f"""
from microkernel import Buffer, IPlugin, expose, on

def number_in(data):
    seen = set(bytes(data.data[:: len(data) // {_SAMPLES}]))
    return seen.pop() if len(seen) == 1 else 0

class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def look(self, data: Buffer) -> int:
        return number_in(data)
    @expose
    def expect(self, number: int) -> None:
        self.number, self.count = number, 0
    @on("frame.taken")
    def taken(self, data: Buffer) -> None:
        self.count += number_in(data) == self.number
    @expose
    def seen(self) -> int:
        return self.count
"""


@contextmanager
def _ours(way: str, size: int, count: int, stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", sender=SENDER, receiver=RECEIVER) as kernel:
        place_workers(kernel, stage)
        often = stage.count(count)
        yield lambda: float(kernel.call(f"sender.{way}", often, size, timeout=120.0, returns=float))


@contextmanager
def _copy(size: int, count: int, stage: Workspace) -> Iterator[Measure]:
    source, often = bytes(size), stage.count(count)
    with mmap(-1, size) as shared, memoryview(shared) as room:

        def copy() -> None:
            for _ in range(often):
                room[:] = source

        copy()
        yield lambda: seconds(copy) / often


def _look(end: Connection) -> None:
    while True:
        data = end.recv()
        end.send(bytes(data[:: len(data) // _SAMPLES]))


@contextmanager
def _pipe(size: int, count: int, stage: Workspace) -> Iterator[Measure]:
    spawning = get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_look, args=(theirs,), daemon=True)
    process.start()
    data, often = bytes(size), stage.count(count)

    def send() -> None:
        for _ in range(often):
            ours.send(data)
            check(ours.recv(), data[:: size // _SAMPLES])

    send()
    stage.place_process(process.pid or 0)
    yield lambda: seconds(send) / often
    process.terminate()
    process.join()


def _row(name: str, way: str, size: int, count: int, rounds: int, *targets: Target) -> Row:
    return Row(
        "P10",
        name,
        ours=Contender(way, partial(_ours, way, size, count)),
        floor=Contender("copy into shared pages", partial(_copy, size, count)),
        peers=(Contender(_PICKLE, partial(_pipe, size, max(1, count // 10))),),
        targets=targets,
        rounds=rounds,
    )


# Targets of 1 MB.
_SMALL = (*pure(at_most(4.0), faster(4.0, _PICKLE)), *native(at_most(2.5)))

ROWS = (
    _row("a Buffer of 1 MB in a call", "call", MEGABYTE, 50, 20, *_SMALL),
    _row("Buffers of 1 MB in events", "emit", MEGABYTE, 100, 20, *_SMALL),
    _row("a Buffer of 100 MB in a call", "call", 100 * MEGABYTE, 3, 10, at_most(1.5), faster(25.0, _PICKLE)),
)
