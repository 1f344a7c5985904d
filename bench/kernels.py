"""Kernels with plugins written for a row, used as an embedding program uses them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.placement import Workspace
from microkernel import Kernel, KernelConfig
from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import Level

# Patience with a full mailbox, so that no event is lost on a busy machine.
_LIMITS = {"full_mailbox_timeout": 30.0}
_NOTHING: Mapping[str, PluginConfig] = {}


@contextmanager
def kernel_of(
    level: Level, given: Mapping[str, PluginConfig] = _NOTHING, direct_after: int = 32, /, **sources: str
) -> Iterator[Kernel]:
    """Start a kernel with one plugin per source, named by its keyword. ``given`` configures single plugins."""
    with tempfile.TemporaryDirectory() as folder:
        plugins = Path(folder) / "plugins"
        plugins.mkdir()
        for name, source in sources.items():
            (plugins / f"{name}.py").write_text(source)
        plugin = {**dict.fromkeys(sources, PluginConfig(isolation=level)), **given}
        config = KernelConfig(data_dir=f"{folder}/data", limits=_LIMITS, plugin=plugin, direct_after=direct_after)
        with Kernel(plugins, config) as kernel:
            for info in kernel.list():
                if info.state != "active":
                    raise RuntimeError(f"{info.name} is {info.state}: {info.error}")
            yield kernel


def source_of(kernel: Kernel, name: str) -> Path:
    return Path(kernel.info(name).path)


def place_workers(kernel: Kernel, stage: Workspace) -> None:
    """Move all plugins that are processes to the core of the workers."""
    for info in kernel.list():
        if info.pid is not None:
            stage.place_process(info.pid)
