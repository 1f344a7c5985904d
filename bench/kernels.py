"""Our side of a row: a kernel with plugins written for it, as an embedding program has one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from bench.placement import Stage
from microkernel import Kernel, KernelConfig
from microkernel.kernel.manifest import Level, PluginConfig

_LIMITS = {"block": 30.0}
"""A machine with other things to do loses no event."""


@contextmanager
def kernel_of(level: str, **sources: str) -> Iterator[Kernel]:
    """With one plugin per source, called as its keyword."""
    with kernel_with({name: (level, source) for name, source in sources.items()}) as kernel:
        yield kernel


@contextmanager
def kernel_with(plugins: Mapping[str, tuple[str, str]]) -> Iterator[Kernel]:
    """By name the level and the source of each. Their files are in ``source_of(kernel, name)``."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, source) in plugins.items():
            (Path(folder) / f"{name}.py").write_text(source)
        levels = {name: PluginConfig(isolation=cast(Level, level)) for name, (level, _) in plugins.items()}
        with Kernel(folder, KernelConfig(data_dir=f"{folder}/data", limits=_LIMITS, plugin=levels)) as kernel:
            for info in kernel.list():
                if info.state != "active":
                    raise RuntimeError(f"{info.name} is {info.state}: {info.error}")
            yield kernel


def source_of(kernel: Kernel, name: str) -> Path:
    return Path(kernel.info(name).path)


def place_workers(kernel: Kernel, stage: Stage) -> None:
    """Every plugin that is a process, on the workers' core."""
    for info in kernel.list():
        if info.pid is not None:
            stage.place_process(info.pid)
