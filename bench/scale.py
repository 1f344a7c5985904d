"""``./run bench scale``: the cost of 10, 100 and 1,000 process plugins, and of a million events through 50 of them."""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from bench.keeping import keep
from bench.kernels import kernel_of
from bench.processes import cpu_of, descriptors_of, own_of, parent_of, pss_of
from bench.report import value_text
from bench.rows import WrongAnswer
from bench.timing import PAYLOAD, check, seconds
from microkernel import Kernel

_PLUGIN = """
from microkernel import IPlugin, expose, on
class Plugin(IPlugin):
    def __init__(self, api):
        super().__init__(api)
        self.total = 0
        api.on(f"scale.{api.name}", self.tick)
    def start(self): pass
    def stop(self): pass
    def tick(self, number: int) -> None:
        self.total += number
    @on("scale.all")
    def all(self) -> None:
        self.api.emit("scale.seen")
    @expose
    def take(self) -> int:
        total, self.total = self.total, 0
        return total
    @expose
    def echo(self, data: bytes) -> bytes:
        return data
"""
# Seconds of the measurement while all are idle.
_IDLE = 5.0
_CALLS = 500
_EMITS = 20
# Plugins that share the million events.
_THROUGH = 50
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """Cost of a number of plugins, in seconds and bytes.

    ``start``, ``pss`` and ``own`` are per plugin; ``idle`` is a share of one core.
    """

    plugins: int
    start: float
    pss: float
    own: float
    idle: float
    descriptors: int
    call: float
    emit: float
    handled: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Cost of many events through some plugins, in seconds per event until it is handled."""

    events: int
    plugins: int
    first_tenth: float
    last_tenth: float


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    _allow_descriptors()
    sizes = [measure(count) for count in options.plugins]
    flow = events(options.events)
    show(sizes, flow)
    path, _ = keep({"scale": {"sizes": [asdict(size) for size in sizes], "events": asdict(flow)}})
    print(f"✓ {path}", file=sys.stderr)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench scale")
    parser.add_argument("--plugins", type=int, nargs="+", default=[10, 100, 1_000], metavar="COUNT")
    parser.add_argument("--events", type=int, default=1_000_000, metavar="COUNT")
    return parser.parse_args(arguments)


def _allow_descriptors() -> None:
    """Raise the limit on descriptors to the maximum of this user."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _plugins(count: int) -> Iterator[Kernel]:
    with kernel_of("process", **{f"p{number}": _PLUGIN for number in range(count)}) as kernel:
        yield kernel


def measure(count: int) -> Size:
    print(f"· {count:,} plugins", file=sys.stderr)
    before = descriptors_of(os.getpid())
    began = time.perf_counter()
    with _plugins(count) as kernel:
        start = (time.perf_counter() - began) / count
        workers = [info.pid for info in kernel.list() if info.pid]
        check(len(workers), count)
        call = _call(kernel, count)
        emit, handled = _fan_out(kernel, count)
        return Size(
            plugins=count,
            start=start,
            pss=sum(map(pss_of, [*workers, parent_of(workers[0])])) / count,
            own=sum(map(own_of, workers)) / count,
            idle=_idle([os.getpid(), *workers]),
            descriptors=descriptors_of(os.getpid()) - before,
            call=call,
            emit=emit,
            handled=handled,
        )


def _call(kernel: Kernel, count: int) -> float:
    """Return the median of calls to one plugin after the other."""

    def echo(number: int) -> None:
        check(kernel.call(f"p{number % count}.echo", PAYLOAD, returns=bytes), PAYLOAD)

    return statistics.median(seconds(partial(echo, number)) for number in range(max(_CALLS, 2 * count)))


def _fan_out(kernel: Kernel, count: int) -> tuple[float, float]:
    """Return the medians for an event to all: until ``emit`` returns, and until all have handled it."""
    seen = threading.Semaphore(0)
    subscription = kernel.on("scale.seen", seen.release, inline=True)
    emits, handled = [], []
    for _ in range(_EMITS):
        began = time.perf_counter()
        kernel.emit("scale.all")
        emits.append(time.perf_counter() - began)
        for _ in range(count):
            if not seen.acquire(timeout=_PATIENCE):
                raise WrongAnswer("an event is lost")
        handled.append(time.perf_counter() - began)
    subscription.cancel()
    return statistics.median(emits), statistics.median(handled)


def _idle(processes: Sequence[int]) -> float:
    """Return the share of one core that idle processes use."""
    before = sum(map(cpu_of, processes))
    time.sleep(_IDLE)
    return (sum(map(cpu_of, processes)) - before) / _IDLE


def events(count: int) -> Flow:
    print(f"· {count:,} events through {_THROUGH} plugins", file=sys.stderr)
    with _plugins(_THROUGH) as kernel:
        tenth = count // 10
        took = [seconds(lambda: _through(kernel, tenth)) / tenth for _ in range(10)]
    return Flow(count, _THROUGH, took[0], took[-1])


def _through(kernel: Kernel, count: int) -> None:
    """Emit ``count`` events to one plugin after the other, and wait until all are handled."""
    topics = [f"scale.p{number}" for number in range(_THROUGH)]
    for number in range(count):
        kernel.emit(topics[number % _THROUGH], number=number)
    totals = [kernel.call(f"p{number}.take", timeout=_PATIENCE) for number in range(_THROUGH)]
    check(sum(totals), sum(range(count)))


_COLUMNS = (
    "plugins", "start each", "Pss each", "own memory each", "idle cpu", "descriptors", "call", "emit to all",
    "handled by all",
)  # fmt: skip


def show(sizes: Sequence[Size], flow: Flow) -> None:
    from rich.table import Table

    from bench.table import console

    table = Table(title="process plugins, and what they take")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for size in sizes:
        table.add_row(
            f"{size.plugins:,}",
            value_text(size.start),
            value_text(size.pss, "B"),
            value_text(size.own, "B"),
            f"{size.idle:.1%}",
            str(size.descriptors),
            value_text(size.call),
            value_text(size.emit),
            value_text(size.handled),
        )
    out = console()
    out.print(table)
    first, last = value_text(flow.first_tenth), value_text(flow.last_tenth)
    out.print(f"{flow.events:,} events through {flow.plugins} plugins: {first} each at first, {last} in the last tenth")
