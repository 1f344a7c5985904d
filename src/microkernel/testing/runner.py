"""For tests of a plugin: a kernel with that plugin, and with others if it needs them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from microkernel.app import Configured, Kernel, configuration
from microkernel.kernel.manifest import Level

Source = str | os.PathLike[str]
"""A path, or source text: what has more than one line."""
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
    """A Kernel with one plugin: of a file or folder, or of source text, which then is called ``name``.

    ``others`` are plugins that it needs: a path or source text, or several; a dict gives each text its name, else the
    first is ``other1``. It raises what kept a plugin from becoming active. Data folders are temporary. ``config`` and
    the other options are the Kernel's: a KernelConfig, a dict with the keys of ``microkernel.toml``, or the path of
    such a file. So ``level="process"`` with nothing else changed must give the same results.
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
