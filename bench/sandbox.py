"""What the walls cost: start and call of a plugin at ``sandbox`` against the same at ``process``, interleaved."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


def compare(row: str, name: str, work: Callable[[Kernel], float], target: float, rounds: int) -> Row:
    with kernel("process") as process, kernel("sandbox") as sandbox:
        work(process), work(sandbox)  # warm
        pairs = [(work(sandbox), work(process)) for _ in range(rounds)]
    ratios = [ours / floor for ours, floor in pairs]
    ours, floor = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Row(row, name, ours, floor, statistics.median(ratios), target, tuple(statistics.quantiles(ratios)))


def rows(*, smoke: bool) -> Iterator[Row]:
    rounds = 2 if smoke else ROUNDS
    yield compare("P11", "start of a sandbox plugin / of a process plugin", start, 1.5, rounds)
    yield compare("P14", "sandbox call / process call", call, 1.05, rounds)
