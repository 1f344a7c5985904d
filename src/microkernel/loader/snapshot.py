"""Reads a plugin's source at one moment, and refuses sources that could not run."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from microkernel.errors import PluginLoadError, valid_text
from microkernel.inspector.sources import SourceFacts
from microkernel.kernel.manifest import Level, Manifest
from microkernel.kernel.ports import PluginCandidate, Snapshot
from microkernel.loader import archives
from microkernel.loader.beneath import Beneath, Folder
from microkernel.loader.byte_scan import SOURCE_BYTES
from microkernel.loader.discovery import ENTRY_POINT, location
from microkernel.loader.display import display_path
from microkernel.loader.file_hashes import FileHashes, cache_file
from microkernel.loader.files import check_size, read_bytes, unreadable
from microkernel.loader.imports import check_imports, is_installed
from microkernel.loader.links import leaving_links, linked_sources
from microkernel.loader.parsers import facts_of_all

if TYPE_CHECKING:
    from packaging.requirements import Requirement


# Limits per plugin: files and folders, bytes of sources, bytes of other files, which are hashed.
MOST_FILES = 20_000
MOST_SOURCE = 32 << 20
MOST_DATA = 1 << 30


def snapshot(
    found: PluginCandidate, peers: Sequence[str], homes: Collection[str] = (), level: Level = "process"
) -> Snapshot:
    """Read a plugin and check it.

    ``homes`` are folders that contain other plugins, and ``level`` is the level at which it will run.

    Raises PluginLoadError: MK0101 or MK0102 (cannot be read), MK0103 (syntax), MK0104 (not UTF-8), MK0105 and MK0106
    (``class Plugin``), MK0117 (packages), MK0118 (imports of a peer), MK0119 (version of Python), MK0137 (a link out of
    the folder, at a confined level), MK0139 to MK0141 (too large, too much, too deep). Problems that only appear when
    it runs are not detected.
    """
    check_python(found.manifest)
    taken = take_snapshot(found.path, level)
    facts = facts_of_all(taken.sources, taken.root)
    check_plugin_class(facts[taken.entry], _path(taken, taken.entry))
    check_dependencies(found.manifest)
    imported = {module for each in facts.values() for module in each.imports}
    if forbidden := forbidden_of(found, taken, imported.intersection(peers), homes):
        for name in sorted(facts, key=lambda name: (name != taken.entry, name)):
            check_imports(facts[name].imports, _path(taken, name), forbidden)
    return taken


def take_snapshot(path: str, level: Level = "process") -> Snapshot:
    """Read the sources of a ``Found.path``, unchecked. Raises PluginLoadError MK0101, MK0102 or MK0137."""
    place, entry = location(path)
    if not entry:
        name = os.path.basename(place)
        data = read_bytes(place, PluginLoadError, SOURCE_BYTES)
        return _snapshot(os.path.dirname(place), name, False, {name: data}, [(name, _sha(data))])
    archived = archives.sizes_in(place)
    if archived is not None:
        check_amount(place, archived)
        return _of_archive(place, entry, archives.files_in(place) or {})
    try:
        with Beneath(place, follows=level not in ("sandbox", "wasm")) as tree:
            return _of_folder(tree, entry, level)
    except OSError as cause:
        raise unreadable(cause.filename or place, cause, PluginLoadError) from None


def _of_folder(tree: Beneath, entry: str, level: Level) -> Snapshot:
    folders = list(_folders(tree))
    leaving = leaving_links(tree, folders)
    if not tree.follows:
        for link, target in leaving.items():
            raise PluginLoadError(
                "MK0137", path=display_path(os.path.join(tree.root, link)), target=target, level=level
            )
    files = sorted({*_names(folders), *linked_sources(tree, folders)})
    check_amount(tree.root, {name: _size(tree, name) for name in files})
    sources = {name: _read_source(tree, name) for name in files if _is_source(name)}
    if entry not in sources:
        raise PluginLoadError("MK0101", path=display_path(os.path.join(tree.root, entry)))
    shas = [(name, _sha(sources[name]) if name in sources else _data_sha(tree, name, leaving)) for name in files]
    return replace(_snapshot(tree.root, entry, "__init__.py" in sources, sources, shas), leaving=tuple(leaving))


def _read_source(tree: Beneath, name: str) -> bytes:
    path = os.path.join(tree.root, name)
    try:
        with tree.open(name) as file:
            data = file.read(SOURCE_BYTES + 1)
    except (OSError, ValueError) as cause:
        raise unreadable(path, cause, PluginLoadError) from None
    check_size(len(data), SOURCE_BYTES, path, PluginLoadError)
    return data


def _size(tree: Beneath, name: str) -> int:
    """Return the size of a regular file in bytes. A missing source is reported when it is read."""
    try:
        found = os.stat(os.path.join(tree.root, name)) if tree.follows else tree.stat(name)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def check_amount(place: str, sizes: Mapping[str, int]) -> None:
    """Refuse a plugin that takes too long to read, judged by the sizes that the system reports.

    Raises PluginLoadError: MK0139 for one source, MK0140 for all sources or all other files together.
    """
    for name, size in sizes.items():
        if _is_source(name):
            check_size(size, SOURCE_BYTES, os.path.join(place, name), PluginLoadError)
    _check_number(place, len(sizes))
    for what, most, is_counted in (("sources", MOST_SOURCE, True), ("other files", MOST_DATA, False)):
        total = sum(size for name, size in sizes.items() if _is_source(name) is is_counted)
        if total > most:
            raise PluginLoadError("MK0140", path=display_path(place), what=f"bytes of {what}", most=most)


def _check_number(place: str, number: int) -> None:
    if number > MOST_FILES:
        raise PluginLoadError("MK0140", path=display_path(place), what="files and folders", most=MOST_FILES)


def _of_archive(place: str, entry: str, files: Mapping[str, bytes]) -> Snapshot:
    sources = {name: data for name, data in sorted(files.items()) if _is_source(name)}
    shas = [(name, _sha(data)) for name, data in sorted(files.items())]
    return _snapshot(place, entry, "__init__.py" in sources, sources, shas)


def _snapshot(
    root: str, entry: str, package: bool, sources: Mapping[str, bytes], shas: Sequence[tuple[str, bytes]]
) -> Snapshot:
    return Snapshot(root, entry, package, sources, digest(shas), {valid_text(name): sha.hex() for name, sha in shas})


def digest(files: Iterable[tuple[str, bytes]]) -> str:
    """Return one SHA-256 over the paths and the SHA-256 of their contents. Different lists of files never share it."""
    from hashlib import sha256  # slow to load, so only where there is a plugin

    whole = sha256()
    for name, sha in files:
        whole.update(_sha(os.fsencode(name)) + sha)
    return whole.hexdigest()


def _sha(data: bytes) -> bytes:
    from hashlib import sha256

    return sha256(data).digest()


def _path(taken: Snapshot, name: str) -> str:
    return display_path(os.path.join(taken.root, name))


# Files


def plugin_files(tree: Beneath) -> Iterator[str]:
    """Return all files, as relative POSIX paths. Links to folders count as files; ``links.py`` handles their
    targets.

    Raises OSError for a folder that cannot be read, because part of a plugin is not the plugin; PluginLoadError MK0140
    for too many files.
    """
    return _names(_folders(tree))


def _folders(tree: Beneath) -> Iterator[Folder]:
    number = 0
    for folder in tree.folders():
        number += len(folder.folders) + len(folder.others)
        _check_number(tree.root, number)
        folder.folders[:] = [name for name in folder.folders if name != "__pycache__"]
        yield folder


def _names(folders: Iterable[Folder]) -> Iterator[str]:
    for folder in folders:
        links = set(folder.links)
        names = [*folder.others, *(name for name in folder.folders if name in links)]
        yield from (f"{folder.path}/{name}".lstrip("/") for name in sorted(names))


def _is_source(name: str) -> bool:
    """Return whether an import statement can name the file. A script ``build-it.py`` or a file in ``.venv`` is data."""
    return name.endswith(".py") and all(part.isidentifier() for part in name.removesuffix(".py").split("/"))


def _data_sha(tree: Beneath, name: str, leaving: Collection[str]) -> bytes:
    """Return the digest of a data file of any size. A link that leads nowhere (editors leave such links), to a
    folder, or out of an environment counts by its target, a pipe as empty."""
    path = os.path.join(tree.root, name)
    try:
        if os.path.islink(path) and not (os.path.isfile(path) and (name in leaving or not tree.leads_out(name))):
            return _sha(os.fsencode(os.readlink(path)))
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _sha(b"")
        with tree.open(name) as file:
            return _hashes().sha256(file)
    except OSError as cause:
        raise unreadable(path, cause, PluginLoadError) from None


@cache
def _hashes() -> FileHashes:
    return FileHashes(cache_file())


# Requirements of a plugin


def check_plugin_class(facts: SourceFacts, path: str) -> None:
    """Raise PluginLoadError: MK0105 if the name Plugin is not bound, MK0106 if its class has no base.

    A Plugin that is assigned, imported, or comes from ``import *`` is checked when it runs.
    """
    if facts.plugin == "absent":
        raise PluginLoadError("MK0105", path=path)
    if facts.plugin == "without base":
        raise PluginLoadError("MK0106", path=path, line=facts.line)


def check_python(manifest: Manifest) -> None:
    """Raise PluginLoadError MK0119 if this Python does not satisfy the manifest."""
    if not manifest.requires_python:
        return
    import platform  # slow to load, so only when needed

    from packaging.specifiers import SpecifierSet

    here = platform.python_version()
    if not SpecifierSet(manifest.requires_python).contains(here, prereleases=True):
        raise PluginLoadError("MK0119", name=manifest.name, wanted=manifest.requires_python, version=here)


def check_dependencies(manifest: Manifest) -> None:
    """Raise PluginLoadError MK0117 with the missing packages, ready for a command line. Requirements whose markers
    do not apply are skipped."""
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


def forbidden_of(found: PluginCandidate, taken: Snapshot, peers: set[str], homes: Collection[str]) -> set[str]:
    """Return the peers that this plugin must not import, regardless of the kernel's ``sys.path``."""
    # The folder of an installed plugin also contains libraries, so it does not count as a folder of plugins.
    home = set() if found.path.startswith(ENTRY_POINT) else {os.path.dirname(os.path.abspath(found.path))}
    others = peers - own_modules(found.name, taken.root, taken.package, taken.sources)
    return {name for name in others if not is_installed(name, home.union(homes))}


def own_modules(name: str, root: str, package: bool, sources: Mapping[str, bytes]) -> set[str]:
    """Return the top-level modules that belong to the plugin: its package, or the files next to its entry."""
    if package:
        return {name, os.path.basename(root)}
    return {name} | {source.partition("/")[0].removesuffix(".py") for source in sources}
