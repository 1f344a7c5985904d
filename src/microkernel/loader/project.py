"""The folder of the project that a kernel runs plugins for: it gives the kernel its name, and owns its data."""

from __future__ import annotations

import os
from collections.abc import Sequence

from microkernel.errors import ConfigError
from microkernel.loader.display import display_path

_USUAL = "plugins"
"""What the folder of plugins within a project is called: no name for a project."""
_ENTRY_POINT = "entry-point"
_NAMELESS = "kernel"
_LONGEST = 200


def project_of(config_file: str, places: Sequence[str]) -> str:
    """The real path of the folder of the configuration file; without one, of the folder that the first of the plugins
    lies in, or of the one around it if that is called ``plugins``; without plugins, the working folder.

    Raises ConfigError MK0101 if a relative path is meant from a working folder that is gone.
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
    """A kernel's name for a project."""
    name = os.path.basename(project).lstrip(".")
    return name if name and name.isprintable() and len(os.fsencode(name)) <= _LONGEST else _NAMELESS
