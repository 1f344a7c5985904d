"""``run_plugin``: a kernel with one plugin, and the plugins it needs, for tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from microkernel.app import Kernel
from microkernel.kernel.manifest import Level
from microkernel.loader.config_in_code import Configured, configuration

# A path, or source text if it contains a newline.
Source = str | os.PathLike[str]
Others = Source | Sequence[Source] | Mapping[str, Source]


@contextmanager
def run_plugin(
    source_or_path: Source,
    level: Level = "thread",
    *,
    name: str = "plugin",
    config: Configured | None = None,
    others: Others = (),
    **kernel_options: Any,
) -> Iterator[Kernel]:
    """Yield a running Kernel with one plugin, from a file, a folder, or source text named ``name``.

    ``others`` are plugins that it needs: one path or source text, or several. In a dict the keys are the names of the
    source texts; otherwise they are named ``other1``, ``other2`` and so on. ``config`` and ``kernel_options`` are those
    of Kernel. Data folders are temporary. The results do not depend on ``level``, so ``level="process"`` may be used
    with nothing else changed.

    Raises the error of the first plugin that did not become active, such as PluginLoadError.
    """
    with tempfile.TemporaryDirectory(prefix="microkernel-run-") as made:
        named = [(name, source_or_path), *_by_name(others).items()]
        paths = [_as_path(source, Path(made), each) for each, source in named]
        settled = configuration(config)
        settled = replace(settled, data_dir=settled.data_dir or str(Path(made) / "data"))
        with Kernel(paths, settled, isolation=level, **kernel_options) as kernel:
            for record in kernel.core.registry:
                if record.error is not None:
                    raise record.error
            yield kernel


def _by_name(others: Others) -> Mapping[str, Source]:
    if isinstance(others, Mapping):
        return others
    others = [others] if isinstance(others, str | os.PathLike) else others
    return {f"other{number}": source for number, source in enumerate(others, 1)}


def _as_path(source_or_path: Source, folder: Path, name: str) -> Path:
    if not isinstance(source_or_path, str) or "\n" not in source_or_path:
        return Path(source_or_path)
    path = folder / f"{name}.py"
    path.write_text(source_or_path, encoding="utf-8")
    return path
