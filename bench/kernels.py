"""Our side of a row: a kernel with plugins written for it, as an embedding program has one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.placement import Workspace
from microkernel import Kernel, KernelConfig
from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import Level

# A machine with other things to do loses no event.
_LIMITS = {"full_mailbox_timeout": 30.0}
_NOTHING: Mapping[str, PluginConfig] = {}


@contextmanager
def kernel_of(level: Level, given: Mapping[str, PluginConfig] = _NOTHING, /, **sources: str) -> Iterator[Kernel]:
    """With one plugin per source, called as its keyword. ``given`` says otherwise of single ones."""
    with tempfile.TemporaryDirectory() as folder:
        plugins = Path(folder) / "plugins"
        plugins.mkdir()
        for name, source in sources.items():
            (plugins / f"{name}.py").write_text(source)
        plugin = {**dict.fromkeys(sources, PluginConfig(isolation=level)), **given}
        with Kernel(plugins, KernelConfig(data_dir=f"{folder}/data", limits=_LIMITS, plugin=plugin)) as kernel:
            for info in kernel.list():
                if info.state != "active":
                    raise RuntimeError(f"{info.name} is {info.state}: {info.error}")
            yield kernel


def source_of(kernel: Kernel, name: str) -> Path:
    return Path(kernel.info(name).path)


def place_workers(kernel: Kernel, stage: Workspace) -> None:
    """Every plugin that is a process, on the workers' core."""
    for info in kernel.list():
        if info.pid is not None:
            stage.place_process(info.pid)
