"""Our side of a row: a kernel with plugins written for it, as an embedding program has one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.placement import Stage
from microkernel import Kernel, KernelConfig


@contextmanager
def kernel_of(level: str, **sources: str) -> Iterator[Kernel]:
    """With one plugin per source, called as its keyword."""
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources.items():
            (Path(folder) / f"{name}.py").write_text(source)
        with Kernel(folder, KernelConfig(data_dir=f"{folder}/data"), isolation=level) as kernel:  # type: ignore[arg-type]
            for info in kernel.list():
                if info.state != "active":
                    raise RuntimeError(f"{info.name} is {info.state}: {info.error}")
            yield kernel


def place_workers(kernel: Kernel, stage: Stage) -> None:
    """Every plugin that is a process, on the workers' core."""
    for info in kernel.list():
        if info.pid is not None:
            stage.place_process(info.pid)
