"""Resolve granted paths without following links that a plugin may have made.

By a link a plugin could redirect its own grants, or another plugin's, to anywhere. Links of ``/proc`` are not followed
either: they lead each process elsewhere, and the kernel to its own entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_PROC = "/proc"
# Links may form a cycle.
_MAX_STEPS = 1000


def resolve_without_links(path: str, writable: Iterable[str]) -> str:
    """Return the path without links, as they are now.

    Empty if a link on the way lies in a folder that plugins may write, or in ``/proc``, such as ``/proc/self`` or what
    ``/dev/stdin`` leads to.
    """
    writable_folders = [*map(os.path.realpath, writable), _PROC]
    at, ahead = "/", _names(path)
    for _ in range(_MAX_STEPS):
        if not ahead:
            return at
        there = os.path.join(at, ahead.pop(0))
        if not os.path.islink(there):
            at = there
        elif any(_is_in(at, folder) for folder in writable_folders):
            return ""
        else:
            at, ahead = "/", [*_names(os.path.join(at, os.readlink(there))), *ahead]
    return ""


def _names(path: str) -> list[str]:
    return [name for name in os.path.normpath(path).split("/") if name]


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
