"""What the walls cost: start and call of a plugin at ``sandbox`` against the same at ``process``, interleaved."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bench.row import Row
from microkernel import Kernel, KernelConfig

ROUNDS = 40
CALLS = 400
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


@contextmanager
def kernel(level: str) -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "p.py").write_text(SOURCE)
        config = KernelConfig(data_dir=f"{folder}/data")
        with Kernel(f"{folder}/p.py", config, isolation=level) as running:  # type: ignore[arg-type]
            yield running


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def start(running: Kernel) -> float:
    """From the request to active."""
    running.stop("p")
    return seconds(lambda: running.start("p"))


def call(running: Kernel) -> float:
    """Of one call, answers checked."""

    def calls() -> None:
        for number in range(CALLS):
            if running.call("p.add", number) != number + 1:
                raise AssertionError("a wrong answer")

    return seconds(calls) / CALLS


def emit(running: Kernel) -> float:
    """Of one event, from the plugin to the kernel's own handler; all of them come."""
    came = threading.Semaphore(0)
    subscription = running.on("p.tick", lambda number: came.release(), inline=True)  # noqa: ARG005

    def emits() -> None:
        if running.call("p.emit", CALLS) != CALLS:
            raise AssertionError("a wrong answer")
        for _ in range(CALLS):
            if not came.acquire(timeout=10.0):
                raise AssertionError("an event is lost")

    took = seconds(emits) / CALLS
    subscription.cancel()
    return took


def loop(running: Kernel) -> float:
    """Of 200,000 turns of a loop in Python."""
    expected = 0
    for number in range(200_000):
        expected = (expected + number * number) % 1_000_003

    def turns() -> None:
        if running.call("p.loop", 200_000, timeout=30.0) != expected:
            raise AssertionError("a wrong answer")

    return seconds(turns)


def compare(
    row: str, name: str, work: Callable[[Kernel], float], target: float, rounds: int, level: str = "sandbox"
) -> Row:
    with kernel("process") as process, kernel(level) as confined:
        work(process), work(confined)  # warm
        return of_pairs(row, name, [(work(confined), work(process)) for _ in range(rounds)], target)


def of_pairs(
    row: str, name: str, pairs: Sequence[tuple[float, float]], target: float, unit: Literal["s", "B"] = "s"
) -> Row:
    ratios = [ours / floor for ours, floor in pairs]
    ours, floor = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Row(row, name, ours, floor, statistics.median(ratios), target, tuple(statistics.quantiles(ratios)), unit)


def table() -> dict[str, Callable[[bool], Row]]:
    def row(id: str, name: str, work: Callable[[Kernel], float], target: float) -> Callable[[bool], Row]:
        return lambda smoke: compare(id, name, work, target, 2 if smoke else ROUNDS)

    return {
        "P11": row("P11", "start of a sandbox plugin / of a process plugin", start, 1.5),
        "P14": row("P14", "sandbox call / process call", call, 1.05),
    }
