"""The folder of the project that a kernel runs plugins for. It names the kernel and owns its data."""

from __future__ import annotations

import os
from collections.abc import Sequence

from microkernel.errors import ConfigError
from microkernel.loader.display import display_path

# Usual name of a project's folder of plugins, which is not used as the project's name.
_USUAL = "plugins"
_ENTRY_POINT = "entry-point"
_NAMELESS = "kernel"
_LONGEST = 200


def project_of(config_file: str, places: Sequence[str]) -> str:
    """Return the real path of the project's folder.

    That is the folder of the configuration file; without one, the folder of the first plugin, or its parent if it is
    called ``plugins``; without plugins, the working folder. Raises ConfigError MK0101 for a relative path if the
    working folder no longer exists.
    """
    paths = [place for place in places if not place.startswith(_ENTRY_POINT)]
    try:
        return _folder_of(config_file, paths)
    except FileNotFoundError:
        if not paths:
            return "/"
        raise ConfigError("MK0101", path=display_path(paths[0])) from None


def _folder_of(config_file: str, paths: Sequence[str]) -> str:
    if config_file or not paths:
        return os.path.dirname(os.path.realpath(config_file)) if config_file else os.path.realpath(os.getcwd())
    place = os.path.realpath(os.path.join(os.getcwd(), paths[0]) if not os.path.isabs(paths[0]) else paths[0])
    folder = place if os.path.isdir(place) or not place.endswith(".py") else os.path.dirname(place)
    return os.path.dirname(folder) if os.path.basename(folder) == _USUAL else folder


def name_after(project: str) -> str:
    """Return the name of a kernel for a project."""
    name = os.path.basename(project).lstrip(".")
    return name if name and name.isprintable() and len(os.fsencode(name)) <= _LONGEST else _NAMELESS
