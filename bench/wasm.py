"""W1 to W6: the cost of a guest. The floor is the same work at ``process``. The guest is built in advance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.kernels import kernel_of
from bench.placement import Workspace
from bench.processes import parent_of, pss_of
from bench.rows import Contender, Measure, Row, at_most
from bench.sandbox import SOURCE, Work, at, call, emit, loop, start
from bench.timing import check
from microkernel.hosts.wasm.image import Image
from microkernel.kernel.manifest import Level

MANY = 50


@contextmanager
def _memory(level: Level, plugins: int, stage: Workspace) -> Iterator[Measure]:
    count = stage.count(plugins)
    yield partial(memory, level, count)


def memory(level: Level, count: int) -> float:
    """Measure the bytes of ``count`` plugins that have answered a call, and of the zygote, without the kernel."""
    with kernel_of(level, **{f"p{number}": SOURCE for number in range(count)}) as kernel:
        for info in kernel.list():
            check(kernel.call(f"{info.name}.add", 1), 2)
        workers = [info.pid for info in kernel.list() if info.pid]
        return sum(map(pss_of, [*workers, parent_of(workers[0])]))


@contextmanager
def _built(contender: Contender, stage: Workspace) -> Iterator[Measure]:
    Image().ensure()
    with contender.open(stage) as measure:
        yield measure


def _guest(contender: Contender) -> Contender:
    return Contender("wasm", partial(_built, contender), ("wasmtime",))


def _row(id: str, name: str, work: Work, limit: float) -> Row:
    ours, floor = _guest(at("wasm", work)), at("process", work)
    return Row(id, name, ours, floor, targets=(at_most(limit),), placements=("free",), columns=("pure",))


def _memory_row(id: str, name: str, plugins: int, limit: float) -> Row:
    ours = _guest(Contender("wasm", partial(_memory, "wasm", plugins)))
    floor = Contender("process", partial(_memory, "process", plugins))
    return Row(
        id,
        name,
        ours,
        floor,
        targets=(at_most(limit),),
        placements=("free",),
        columns=("pure",),
        rounds=5,
        warm_ups=0,
        unit="B",
    )


ROWS = (
    _row("W1", "start of a wasm plugin / of a process plugin", start, 4.0),
    _row("W2", "wasm call / process call", call, 3.0),
    _row("W3", "wasm emit / process emit", emit, 2.5),
    _memory_row("W4", "memory of one wasm plugin and its zygote / of a process plugin", 1, 4.0),
    _memory_row("W5", f"memory of {MANY} wasm plugins and their zygote / of process plugins", MANY, 2.5),
    _row("W6", "a loop in Python at wasm / at process", loop, 3.2),
)
