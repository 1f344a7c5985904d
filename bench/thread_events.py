"""P3: events to a plugin in a thread of the kernel's process, emitted as fast as possible.

Floor: values encoded, passed through a SimpleQueue, decoded to their types and handled.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from bench.kernels import kernel_of
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, at_most, faster, native, pure
from bench.threads import thread
from bench.timing import events
from bench.workers.messages import Tick, decode_tick, encode

# Adds up the numbers of events, and returns the sum since the last request, which is handled after the events.
SUM = """
from microkernel import IPlugin, expose, on
class Plugin(IPlugin):
    def start(self): self.total = 0
    def stop(self): pass
    @on("bench.tick")
    def tick(self, number: int) -> None:
        self.total += number
    @expose
    def take(self) -> int:
        total, self.total = self.total, 0
        return total
"""
_EVENTS = 5_000
# The number that ends a measurement.
_END = 0


@contextmanager
def _ours(stage: Workspace) -> Iterator[Measure]:
    with kernel_of("thread", sum=SUM) as kernel:
        yield events(
            lambda number: kernel.emit("bench.tick", number=number),
            lambda: kernel.call("sum.take", timeout=60.0),
            stage.count(_EVENTS),
        )


class Sum:
    """The handler of the plugin, for contenders that call it from a separate thread."""

    def __init__(self) -> None:
        self.total = 0
        self._totals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def handle(self, number: int) -> None:
        self.total += number
        if number == _END:
            self._totals.put(self.total)
            self.total = 0

    def wait(self) -> int:
        return self._totals.get(timeout=60.0)


class _Queue(Protocol):
    def put(self, item: Any) -> None: ...
    def get(self) -> Any: ...


@contextmanager
def _through(
    between: _Queue, write: Callable[[int], object], read: Callable[[Any], int], stage: Workspace
) -> Iterator[Measure]:
    """Send numbers through a queue. ``write`` converts a number to an item, ``read`` an item to its number."""
    found = Sum()

    def serve() -> None:
        while (item := between.get()) is not None:
            found.handle(read(item))

    def emit(number: int) -> None:
        between.put(write(number))

    def settle() -> int:
        emit(_END)
        return found.wait()

    with thread(serve, lambda: between.put(None), stage):
        yield events(emit, settle, stage.count(_EVENTS))


@contextmanager
def _typed(stage: Workspace) -> Iterator[Measure]:
    def write(number: int) -> bytes:
        return encode(Tick(number))

    def read(data: bytes) -> int:
        return decode_tick(data).number

    with _through(queue.SimpleQueue(), write, read, stage) as measure:
        yield measure


def _same(number: int) -> int:
    return number


@contextmanager
def _bare(stage: Workspace) -> Iterator[Measure]:
    with _through(queue.Queue(), _same, _same, stage) as measure:
        yield measure


@contextmanager
def _asyncio(stage: Workspace) -> Iterator[Measure]:
    """Hand calls of the handler to an event loop in a thread."""
    found, loop, runs = Sum(), asyncio.new_event_loop(), threading.Event()

    def settle() -> int:
        loop.call_soon_threadsafe(found.handle, _END)
        return found.wait()

    loop.call_soon(runs.set)
    with thread(loop.run_forever, lambda: loop.call_soon_threadsafe(loop.stop), stage):
        runs.wait()
        yield events(lambda number: loop.call_soon_threadsafe(found.handle, number), settle, stage.count(_EVENTS))
    loop.close()


ROWS = (
    Row(
        "P3",
        "event to a thread plugin, saturated",
        ours=Contender("emit", _ours),
        floor=Contender("SimpleQueue, encode, typed decode, call", _typed),
        peers=(Contender("queue.Queue, bare references", _bare), Contender("asyncio, call_soon_threadsafe", _asyncio)),
        targets=(*pure(at_most(10.0)), *native(at_most(3.5), faster(1.0, "queue.Queue, bare references"))),
        placements=("free",),
        rounds=20,
    ),
)
