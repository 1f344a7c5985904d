"""Detect writable folders that would expose the kernel's own files: plugins, the lock, the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterable


def exposed(folder: str, places: Iterable[str], own: Iterable[str]) -> str:
    """Return a path that could be changed, or added to, by writing below ``folder``; empty if there is none.

    ``places``: folders that are searched for plugins. A folder directly inside one may become a plugin. ``own``:
    plugins and files, inside which writing is not allowed either.
    """
    folder, parents = os.path.realpath(folder), dict[str, str]()
    for place in map(os.path.realpath, places):
        if is_within(place, folder) or os.path.dirname(folder) == place:
            return place
    for path in own:
        path = _real(path, parents)
        if is_within(path, folder) or is_within(folder, path):
            return path
    return ""


def _real(path: str, parents: dict[str, str]) -> str:
    """Return the path without links. Many plugins lie in one folder, whose links are resolved once."""
    if os.path.islink(path):
        return os.path.realpath(path)
    parent, name = os.path.split(path)
    if parent not in parents:
        parents[parent] = os.path.realpath(parent)
    return os.path.join(parents[parent], name)


def is_within(path: str, folder: str) -> bool:
    """Return whether an absolute path is ``folder`` or lies below it."""
    return path == folder or path.startswith(os.path.join(folder, ""))
