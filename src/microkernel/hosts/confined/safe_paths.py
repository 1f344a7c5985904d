"""Where a granted path leads. By a link a plugin could move its own grants, or another's, to anywhere: so none is
followed that a plugin may have made. Nor is one of ``/proc``: it leads each process elsewhere, and the kernel to its
own entry."""

from __future__ import annotations

import os
from collections.abc import Iterable

_PROC = "/proc"
_MAX_STEPS = 1000
"""Steps: links may lead in a circle."""


def resolve_without_links(path: str, writable: Iterable[str]) -> str:
    """The path without links, as they are now; empty if one on the way lies in a folder that plugins may write, or in
    ``/proc``, such as ``/proc/self`` or what ``/dev/stdin`` leads to."""
    theirs = [*map(os.path.realpath, writable), _PROC]
    at, ahead = "/", _names(path)
    for _ in range(_MAX_STEPS):
        if not ahead:
            return at
        there = os.path.join(at, ahead.pop(0))
        if not os.path.islink(there):
            at = there
        elif any(_is_in(at, folder) for folder in theirs):
            return ""
        else:
            at, ahead = "/", [*_names(os.path.join(at, os.readlink(there))), *ahead]
    return ""


def _names(path: str) -> list[str]:
    return [name for name in os.path.normpath(path).split("/") if name]


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
