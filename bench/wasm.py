"""What a guest costs: a plugin at ``wasm`` against the same at ``process``. The guest is built before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.row import Row
from bench.sandbox import ROUNDS, SOURCE, call, compare, emit, loop, of_pairs, start
from microkernel import Kernel, KernelConfig
from microkernel.hosts._image import Image

_KiB = 1024


def memory(level: str, count: int) -> float:
    """Of so many plugins that have answered a call, and the zygote, without the kernel: the bytes that would be free
    without them (Pss, what is shared counts by share)."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            (Path(folder) / f"p{number}.py").write_text(SOURCE)
        with Kernel(folder, KernelConfig(data_dir=f"{folder}/data"), isolation=level) as running:  # type: ignore[arg-type]
            for info in running.list():
                if running.call(f"{info.name}.add", 1) != 2:
                    raise AssertionError("a wrong answer")
            workers = [info.pid for info in running.list() if info.pid]
            zygote = int(Path(f"/proc/{workers[0]}/stat").read_text().rpartition(")")[2].split()[1])
            return sum(map(_pss, [*workers, zygote]))


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * _KiB for line in lines if line.startswith("Pss:"))


def table() -> dict[str, Callable[[bool], Row]]:
    def row(id: str, name: str, work: Callable[[Kernel], float], target: float) -> Callable[[bool], Row]:
        def measure(smoke: bool) -> Row:
            _built()
            return compare(id, name, work, target, 2 if smoke else ROUNDS, "wasm")

        return measure

    def held(id: str, name: str, count: int, target: float) -> Callable[[bool], Row]:
        def measure(smoke: bool) -> Row:
            _built()
            pairs = [(memory("wasm", count), memory("process", count)) for _ in range(2 if smoke else 5)]
            return of_pairs(id, name, pairs, target, "B")

        return measure

    return {
        "W1": row("W1", "start of a wasm plugin / of a process plugin", start, 3.0),
        "W2": row("W2", "wasm call / process call", call, 3.0),
        "W3": row("W3", "wasm emit / process emit", emit, 3.0),
        "W4": held("W4", "memory of one wasm plugin and its zygote / of a process plugin", 1, 4.0),
        "W5": held("W5", "memory of 20 wasm plugins and their zygote / of process plugins", 20, 3.0),
        "W6": row("W6", "a loop in Python at wasm / at process", loop, 3.0),
    }


def _built() -> None:
    """Before the clock runs."""
    Image().ready()
