"""For tests of a plugin: a kernel with that one plugin."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from microkernel.app import Kernel
from microkernel.kernel.manifest import KernelConfig, Level


@contextmanager
def run_plugin(
    source_or_path: str | os.PathLike[str],
    level: Level = "thread",
    *,
    name: str = "plugin",
    config: KernelConfig | None = None,
    **kernel_options: Any,
) -> Iterator[Kernel]:
    """A Kernel with one plugin: of a file or folder, or of source text, which then is called ``name``.

    It raises what kept the plugin from becoming active. Data folders are temporary. ``config`` and the other options
    are the Kernel's; so ``level="process"`` with nothing else changed must give the same results.
    """
    with tempfile.TemporaryDirectory(prefix="microkernel-run-") as made:
        path = _as_path(source_or_path, Path(made), name)
        config = config or KernelConfig()
        config = replace(config, data_dir=config.data_dir or str(Path(made) / "data"))
        with Kernel(path, config, isolation=level, **kernel_options) as kernel:
            for record in kernel.core.registry:
                if record.error is not None:
                    raise record.error
            yield kernel


def _as_path(source_or_path: str | os.PathLike[str], folder: Path, name: str) -> Path:
    if not isinstance(source_or_path, str) or "\n" not in source_or_path:
        return Path(source_or_path)
    path = folder / f"{name}.py"
    path.write_text(source_or_path, encoding="utf-8")
    return path
