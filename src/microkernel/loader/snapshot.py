"""Takes a plugin's source as it is at one moment, and refuses what could not run."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import stat
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from microkernel.errors import PluginLoadError, valid_text
from microkernel.kernel.manifest import Manifest
from microkernel.kernel.ports import Found, Snapshot, steady
from microkernel.loader import archives
from microkernel.loader.discovery import ENTRY_POINT, location
from microkernel.loader.file_hashes import FileHashes, cache_file
from microkernel.loader.files import decode, read_bytes, shown, unreadable
from microkernel.loader.imports import check_imports, imports, is_installed
from microkernel.loader.links import linked_sources

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def snapshot(found: Found, peers: Sequence[str], homes: Collection[str] = ()) -> Snapshot:
    """Read a plugin and check it. ``homes``: folders where other plugins are known to lie; its own is known.

    Raises PluginLoadError: MK0101 or MK0102 (cannot be read), MK0103 (syntax), MK0104 (not UTF-8), MK0105 and MK0106
    (``class Plugin``), MK0117 (packages), MK0118 (imports of a peer), MK0119 (version of Python). Not for what only
    running it shows.
    """
    check_python(found.manifest)
    taken = take(found.path)
    trees = {name: parse(data, os.path.join(taken.root, name)) for name, data in taken.sources.items()}
    check_plugin_class(trees[taken.entry], _path(taken, taken.entry))
    check_dependencies(found.manifest)
    imported = {each.top for tree in trees.values() for each in imports(tree)}
    if forbidden := forbidden_of(found, taken, imported.intersection(peers), homes):
        for name in sorted(trees, key=lambda name: (name != taken.entry, name)):
            check_imports(trees[name], _path(taken, name), forbidden)
    return taken


def take(path: str) -> Snapshot:
    """Read the sources of a ``Found.path``, unchecked. Raises PluginLoadError MK0101 or MK0102."""
    place, entry = location(path)
    if not entry:
        name = os.path.basename(place)
        data = read_bytes(place, PluginLoadError)
        return _snapshot(os.path.dirname(place), name, False, {name: data}, [(name, _sha(data))])
    archived = archives.files_in(place)
    if archived is not None:
        return _of_archive(place, entry, archived)
    linked = linked_sources(place)
    files = sorted({*plugin_files(place), *linked.sources})
    sources = {name: read_bytes(os.path.join(place, name), PluginLoadError) for name in files if _is_source(name)}
    if entry not in sources:
        raise PluginLoadError("MK0101", path=shown(os.path.join(place, entry)))
    shas = [(name, _sha(sources[name]) if name in sources else _data_sha(os.path.join(place, name))) for name in files]
    return replace(_snapshot(place, entry, "__init__.py" in sources, sources, shas), leaving=tuple(linked.leaving))


def _of_archive(place: str, entry: str, files: Mapping[str, bytes]) -> Snapshot:
    sources = {name: data for name, data in sorted(files.items()) if _is_source(name)}
    shas = [(name, _sha(data)) for name, data in sorted(files.items())]
    return _snapshot(place, entry, "__init__.py" in sources, sources, shas)


def _snapshot(
    root: str, entry: str, package: bool, sources: Mapping[str, bytes], shas: Sequence[tuple[str, bytes]]
) -> Snapshot:
    return Snapshot(root, entry, package, sources, digest(shas), {valid_text(name): sha.hex() for name, sha in shas})


def digest(files: Iterable[tuple[str, bytes]]) -> str:
    """One SHA-256 for paths and the SHA-256 of what they hold; no two different lists of files share it."""
    whole = hashlib.sha256()
    for name, sha in files:
        whole.update(_sha(os.fsencode(name)) + sha)
    return whole.hexdigest()


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _path(taken: Snapshot, name: str) -> str:
    return shown(os.path.join(taken.root, name))


# Files


def plugin_files(folder: str) -> Iterator[str]:
    """All files below, as relative POSIX paths. Links to folders count as files; what is behind: ``links.py``. Raises
    PluginLoadError for a folder that cannot be read: a part of a plugin is not the plugin."""
    for parent, folders, names in os.walk(folder, onerror=_raise_unreadable):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        names += [name for name in folders if os.path.islink(os.path.join(parent, name))]
        inside = os.path.relpath(parent, folder)
        yield from (os.path.normpath(os.path.join(inside, name)).replace(os.sep, "/") for name in sorted(names))


def _raise_unreadable(cause: OSError) -> None:
    if not isinstance(cause, FileNotFoundError):  # it has just gone
        raise unreadable(cause.filename, cause, PluginLoadError) from None


def _is_source(name: str) -> bool:
    """What an import statement can name: a script ``build-it.py`` or what lies in ``.venv`` is data."""
    return name.endswith(".py") and all(part.isidentifier() for part in name.removesuffix(".py").split("/"))


def _data_sha(path: str) -> bytes:
    """Of a data file, however large. A link that leads nowhere (editors leave such) or to a folder counts as where it
    leads, a pipe as empty."""
    try:
        if os.path.islink(path) and not os.path.isfile(path):
            return _sha(os.fsencode(os.readlink(path)))
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _sha(b"")
        with open(path, "rb") as file:
            return _hashes().sha256(file)
    except OSError as cause:
        raise unreadable(path, cause, PluginLoadError) from None


@cache
def _hashes() -> FileHashes:
    return FileHashes(cache_file())


# Syntax

_STUMBLES = 20
"""How often in a row CPython may stumble over another thread's tree."""


def _tree(text: str, path: str) -> ast.Module:
    """CPython counts for all threads together how deep it is in the trees it builds, and takes another thread that
    builds one meanwhile (a traceback does, for its carets) for a mistake of its own."""
    for _ in range(_STUMBLES):
        with contextlib.suppress(SystemError):
            return ast.parse(text, path)
    return ast.parse(text, path)


def parse(data: bytes, path: str) -> ast.Module:
    """Compile a source, and give its tree. Raises PluginLoadError MK0103 or MK0104.

    Warnings are kept quiet: the plugin's own place compiles it again, and its log is where they belong.
    """
    text = decode(data, path, PluginLoadError)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise PluginLoadError("MK0103", path=shown(path), line=line, reason="a null byte")
    try:
        # What warnings are shown is the whole process's; the lock keeps two of us from restoring each other's state.
        with steady, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _tree(text, path)
            compile(tree, path, "exec", dont_inherit=True)
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as cause:
        raise syntax_error(cause, path, text) from None


def syntax_error(cause: Exception, path: str, text: str) -> PluginLoadError:
    """``expected ':' in "def total(self)"``: Python's words, and the line they are about."""
    line = (cause.lineno if isinstance(cause, SyntaxError) else 0) or 1
    said = cause.msg if isinstance(cause, SyntaxError) else str(cause) or "too deeply nested"
    lines = text.split("\n")
    there = lines[line - 1].strip() if line <= len(lines) else ""
    quoted = f'in "{there if len(there) <= 60 else there[:59] + "…"}"' if there else "at the end of the file"
    reason = f"{said.removeprefix('invalid syntax').lstrip('. ')} {quoted}".strip()
    return PluginLoadError("MK0103", path=shown(path), line=line, reason=reason)


# What a plugin must have


def check_plugin_class(tree: ast.Module, path: str) -> None:
    """Raises PluginLoadError: MK0105 where the name Plugin is not bound, MK0106 where its class has no base.

    Not for a Plugin that is assigned, imported, or comes in by ``import *``: that is seen when it runs.
    """
    binders = [node for node in _top_level(tree.body) if _binds_plugin(node)]
    if not binders:
        raise PluginLoadError("MK0105", path=path)
    last = binders[-1]
    if isinstance(last, ast.ClassDef) and not last.bases:
        raise PluginLoadError("MK0106", path=path, line=last.lineno)


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run in the module's own namespace, in ``if``, ``try`` and ``with`` too."""
    for node in body:
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(node, name, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _top_level(handler.body)


def _binds_plugin(node: ast.stmt) -> bool:
    match node:
        case ast.ClassDef(name="Plugin") | ast.AnnAssign(target=ast.Name(id="Plugin"), value=ast.expr()):
            return True
        case ast.Assign(targets=targets):
            return any(isinstance(n, ast.Name) and n.id == "Plugin" for target in targets for n in ast.walk(target))
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return any((each.asname or each.name) in ("Plugin", "*") for each in names)
    return False


def check_python(manifest: Manifest) -> None:
    """Raises PluginLoadError MK0119 when this Python is not among those that the manifest wants."""
    if not manifest.requires_python:
        return
    import platform  # these are slow to load: where somebody asks for them

    from packaging.specifiers import SpecifierSet

    here = platform.python_version()
    if not SpecifierSet(manifest.requires_python).contains(here, prereleases=True):
        raise PluginLoadError("MK0119", name=manifest.name, wanted=manifest.requires_python, version=here)


def check_dependencies(manifest: Manifest) -> None:
    """Raises PluginLoadError MK0117 with the packages, ready for a command line. Not where markers do not apply."""
    if not manifest.dependencies:
        return
    import shlex

    from packaging.requirements import Requirement

    missing = [each for each in manifest.dependencies if not _is_satisfied(Requirement(each))]
    if missing:
        raise PluginLoadError("MK0117", name=manifest.name, packages=" ".join(map(shlex.quote, missing)))


def _is_satisfied(wanted: Requirement) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False


def forbidden_of(found: Found, taken: Snapshot, peers: set[str], homes: Collection[str]) -> set[str]:
    """Those of the peers that this plugin cannot import, whatever the kernel's ``sys.path`` happens to be."""
    # Where an installed plugin lies, lie the libraries too: that folder is no home of plugins.
    home = set() if found.path.startswith(ENTRY_POINT) else {os.path.dirname(os.path.abspath(found.path))}
    others = peers - own_modules(found.name, taken.root, taken.package, taken.sources)
    return {name for name in others if not is_installed(name, home.union(homes))}


def own_modules(name: str, root: str, package: bool, sources: Mapping[str, bytes]) -> set[str]:
    """The top-level modules a plugin may import as its own: its package, or the files beside its entry."""
    if package:
        return {name, os.path.basename(root)}
    return {name} | {source.partition("/")[0].removesuffix(".py") for source in sources}
