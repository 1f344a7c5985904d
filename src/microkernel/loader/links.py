"""Sources behind links to folders: a plugin imports them as Python would.

A link that leads out of the plugin's folder is followed too, and known: a confined level refuses it, since what lies
there was not granted with the plugin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from microkernel.errors import PluginLoadError
from microkernel.loader.files import shown

_MOST = 5_000
"""Files and folders behind all links: more is not a package of modules."""


class Linked(NamedTuple):
    """The sources behind a plugin's links, as relative POSIX paths, and the links among them that lead out."""

    sources: list[str]
    leaving: list[str]


def linked_sources(root: str) -> Linked:
    """Raises PluginLoadError MK0102 where a link leads to too much."""
    found = Linked([], [])
    real = os.path.realpath(root)
    seen = count()
    for parent, folders, _ in os.walk(root):
        inside = _relative(parent, root)
        folders[:] = sorted(name for name in folders if name.isidentifier())
        for name in folders:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                behind = _sources_behind(path, (os.path.realpath(parent),), seen)
                sources = [_join(inside, name, each) for each in behind]
                found.sources.extend(sources)
                if sources and not _is_in(os.path.realpath(path), real):
                    found.leaving.append(_join(inside, name))
    return found


def _sources_behind(link: str, above: tuple[str, ...], seen: Iterator[int]) -> Iterator[str]:
    """A link back to a folder that leads here has no end, and is left out. ``seen`` counts what lies behind all links:
    a few that lead to each other's folders give a path for each order in which they can be followed."""
    if any(_is_in(each, os.path.realpath(link)) for each in above):
        return
    for parent, folders, names in os.walk(link):
        if any(next(seen) >= _MOST for _ in (parent, *folders, *names)):
            raise PluginLoadError("MK0102", path=shown(link), reason=f"the links lead to more than {_MOST} files")
        inside = _relative(parent, link)
        folders[:] = sorted(name for name in folders if name.isidentifier())
        for name in folders:
            if os.path.islink(path := os.path.join(parent, name)):
                behind = _sources_behind(path, (*above, os.path.realpath(parent)), seen)
                yield from (_join(inside, name, each) for each in behind)
        yield from (_join(inside, name) for name in sorted(names) if name.endswith(".py") and name[:-3].isidentifier())


def _relative(folder: str, root: str) -> str:
    return "" if folder == root else os.path.relpath(folder, root)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part).replace(os.sep, "/")


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
