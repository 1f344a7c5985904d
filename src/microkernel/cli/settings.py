"""``microkernel.toml`` as the command line reads it. Its paths are relative to its own folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from microkernel.errors import ConfigError, KernelError
from microkernel.kernel.config import KernelConfig
from microkernel.loader.files import missing

FILE = "microkernel.toml"
LOCK = "microkernel.lock"
FOLDER = "plugins"
_NOT_PATHS = ("entry-point:", "entry-points")


def settings(path: str = "") -> KernelConfig:
    """Read the named file, else the one in the working folder if it exists, else the defaults. Raises ConfigError."""
    if _is_none(path) or (not path and not os.path.exists(FILE)):
        return KernelConfig()
    from microkernel.loader import read_config  # loaded only if there is a file

    config = read_config(path or FILE)
    home = Path(path or FILE).absolute().parent
    return replace(
        config,
        plugins=tuple(_resolved(place, home) for place in config.plugins),
        data_dir=_resolved(config.data_dir, home) if config.data_dir else "",
    )


def reader(path: str = "") -> Callable[[], KernelConfig] | None:
    """Return a function that reads the same file again, even if the working folder changes; None without a file."""
    file = path or FILE
    return partial(settings, os.path.abspath(file)) if os.path.exists(file) and not _is_none(path) else None


def wished_language() -> str:
    """Return the language that the file in the working folder names; empty if it cannot be read."""
    try:
        return settings().language
    except KernelError:
        return ""


def places(given: Sequence[str], config: KernelConfig) -> list[str]:
    """Return the places to search for plugins in addition to the configured ones. Raises KernelError MK0101."""
    if not given and not config.plugins:
        given = [FOLDER]
    for place in given:
        if not place.startswith(_NOT_PATHS) and not os.path.lexists(place):
            raise missing(place, ConfigError)
    return list(given)


def lock_path(path: str, given: Sequence[str], config: KernelConfig) -> str:
    """Return the path of the lock file: next to the configuration file, or else next to the first folder of plugins."""
    if not _is_none(path) and (path or os.path.exists(FILE)):
        return str(Path(path or FILE).absolute().with_name(LOCK))
    paths = [place for place in (*given, *config.plugins) if not place.startswith(_NOT_PATHS)]
    return str(Path(paths[0] if paths else FOLDER).absolute().with_name(LOCK))


def _is_none(path: str) -> bool:
    """Return whether no file is to be read, not even that of the working folder."""
    return bool(path) and os.path.realpath(path) == os.devnull


def _resolved(place: str, home: Path) -> str:
    return place if place.startswith(_NOT_PATHS) else str(home / os.path.expanduser(place))
