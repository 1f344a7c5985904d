"""Links in a plugin's folder: which of them lead out of it, and the sources behind links to folders, which a plugin
imports as Python would.

The content outside was not approved with the plugin. Confined levels refuse such a link, other levels follow it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count

from microkernel.errors import PluginLoadError
from microkernel.loader.beneath import MOST_DEPTH, Beneath, Folder, too_much
from microkernel.loader.display import display_path

# Files and folders behind all links. More than this is not a package of modules.
_MOST = 5_000
# Depth of links to folders that contain further links.
_MOST_NESTED = 40
# Name of a file in virtual environments, which have links to the interpreter that made them.
_ENVIRONMENT = "pyvenv.cfg"


def leaving_links(tree: Beneath, folders: Sequence[Folder]) -> Mapping[str, str]:
    """Return the links that lead out, with their targets. Links in environments and hidden folders are omitted,
    because no level follows them and no plugin consists of them."""
    environments = tuple(f"{each.path}/" for each in folders if each.path and _ENVIRONMENT in each.others)
    links = (_join(each.path, name) for each in folders for name in each.links)
    own = (link for link in links if not is_aside(link) and not link.startswith(environments))
    return {link: target for link in own if (target := tree.leads_out(link))}


def is_aside(path: str) -> bool:
    """Return whether a path is in a hidden folder or one of a package manager."""
    return any(part.startswith(".") or part == "node_modules" for part in path.split("/")[:-1])


def linked_sources(tree: Beneath, folders: Sequence[Folder]) -> list[str]:
    """Return the sources behind links to folders, as relative POSIX paths. Raises PluginLoadError MK0102 if links
    lead to too many."""
    seen = count()
    found: list[str] = []
    for folder in folders:
        if all(part.isidentifier() for part in folder.path.split("/") if part):
            names = sorted(name for name in {*folder.folders}.intersection(folder.links) if name.isidentifier())
            above = (os.path.realpath(os.path.join(tree.root, folder.path)),) if names else ()
            for name in names:
                found.extend(_sources_behind(tree, _join(folder.path, name), above, seen))
    return found


def _sources_behind(tree: Beneath, link: str, above: tuple[str, ...], seen: Iterator[int]) -> Iterator[str]:
    """Yield the sources behind one link, without links back to a folder on the way, which have no end.

    ``seen`` counts what is behind all links: a few links to each other's folders give a path for each order in which
    they can be followed.
    """
    path = os.path.join(tree.root, link)
    if any(_is_in(each, os.path.realpath(path)) for each in above) or (not tree.follows and tree.leads_out(link)):
        return
    if len(above) > _MOST_NESTED:
        raise too_much(tree.root, "links inside one another", _MOST_NESTED)
    for parent, folders, names in _walk(path, tree.root):
        if any(next(seen) >= _MOST for _ in (parent, *folders, *names)):
            raise PluginLoadError(
                "MK0102", path=display_path(path), reason=f"the links lead to more than {_MOST} files"
            )
        inside = _join(link, "" if parent == path else os.path.relpath(parent, path))
        folders[:] = sorted(name for name in folders if name.isidentifier())
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                yield from _sources_behind(tree, _join(inside, name), (*above, os.path.realpath(parent)), seen)
        yield from (_join(inside, name) for name in sorted(names) if name.endswith(".py") and name[:-3].isidentifier())


def _walk(path: str, root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk like ``os.walk``, which recurses for each depth in Python 3.11, but with a limit."""
    pending = [(path, 0)]
    while pending:
        parent, depth = pending.pop()
        if depth > MOST_DEPTH:
            raise too_much(root, "folders inside one another", MOST_DEPTH)
        folders, names = _entries(parent)
        yield parent, folders, names
        inner = (os.path.join(parent, name) for name in reversed(folders))
        pending += [(each, depth + 1) for each in inner if not os.path.islink(each)]


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Return folders and other entries; empty for a folder that cannot be read."""
    found: tuple[list[str], list[str]] = [], []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found[0 if _is_folder(entry) else 1].append(entry.name)
    return found


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part).replace(os.sep, "/")


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
