"""P14, and the start of P11 at ``sandbox``: the cost of confinement. The floor is the same work at ``process``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, WrongAnswer, at_most
from bench.timing import check, seconds
from microkernel import Kernel
from microkernel.kernel.manifest import Level

SOURCE = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def add(self, number: int) -> int:
        return number + 1
    @expose
    def emit(self, count: int) -> int:
        for number in range(count):
            self.api.emit("p.tick", number=number)
        return count
    @expose
    def loop(self, count: int) -> int:
        total = 0
        for number in range(count):
            total = (total + number * number) % 1000003
        return total
"""
_CALLS = 400
_TURNS = 200_000

# Measures one operation of the plugin ``p`` in a kernel, in seconds.
Work = Callable[[Kernel, Workspace], float]


def start(kernel: Kernel, _stage: Workspace) -> float:
    """Measure a start, from the request until the plugin is active."""
    kernel.stop("p")
    return seconds(lambda: kernel.start("p"))


def call(kernel: Kernel, stage: Workspace) -> float:
    count = stage.count(_CALLS)

    def calls() -> None:
        for number in range(count):
            if kernel.call("p.add", number) != number + 1:
                raise WrongAnswer("not the number after it")

    return seconds(calls) / count


def emit(kernel: Kernel, stage: Workspace) -> float:
    """Measure an event from the plugin to a handler of the embedding program, and check that all arrive."""
    count = stage.count(_CALLS)
    came = threading.Semaphore(0)
    subscription = kernel.on("p.tick", lambda number: came.release(), inline=True)  # noqa: ARG005

    def emits() -> None:
        check(kernel.call("p.emit", count), count)
        for _ in range(count):
            if not came.acquire(timeout=10.0):
                raise WrongAnswer("an event is lost")

    took = seconds(emits) / count
    subscription.cancel()
    return took


def loop(kernel: Kernel, stage: Workspace) -> float:
    """Measure a whole loop in Python."""
    turns, expected = stage.count(_TURNS), 0
    for number in range(turns):
        expected = (expected + number * number) % 1_000_003
    return seconds(lambda: check(kernel.call("p.loop", turns, timeout=30.0), expected))


@contextmanager
def _at(level: Level, work: Work, stage: Workspace) -> Iterator[Measure]:
    with kernel_of(level, p=SOURCE) as kernel:
        place_workers(kernel, stage)
        yield lambda: work(kernel, stage)


def at(level: Level, work: Work) -> Contender:
    return Contender(level, partial(_at, level, work))


ROWS = (
    Row(
        "P11",
        "start of a sandbox plugin / of a process plugin",
        ours=at("sandbox", start),
        floor=at("process", start),
        targets=(at_most(1.4),),
        placements=("free",),
    ),
    Row(
        "P14",
        "sandbox call / process call",
        ours=at("sandbox", call),
        floor=at("process", call),
        targets=(at_most(1.05),),
        columns=("pure",),
    ),
)
