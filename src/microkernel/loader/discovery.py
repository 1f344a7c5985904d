"""Finds plugins in folders, files and entry points. Never raises for a single plugin, whose problem becomes its
``error``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

from microkernel.errors import ConfigError, ManifestError, PluginLoadError, valid_text
from microkernel.kernel.manifest import Manifest
from microkernel.kernel.ports import PluginCandidate
from microkernel.loader.byte_scan import SOURCE_BYTES
from microkernel.loader.display import display_path
from microkernel.loader.files import missing, read_text, unforeseen, unreadable
from microkernel.loader.manifests import entry_of, read_manifest, stem

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "microkernel.plugins"
ALL_ENTRY_POINTS = "entry-points"
ENTRY_POINT = "entry-point:"


def discover(places: Sequence[str]) -> list[PluginCandidate]:
    """Return all plugins in these folders, files and entry points, by name; a plugin that cannot be used is included
    with its error.

    Of two plugins with one name the first place wins. A plugin that is found twice is included once.
    """
    found = {each.path: each for place in places for each in _in_place(place)}
    return sorted(_one_a_name(found.values()), key=lambda each: (each.name, each.error is not None))


def may_have_plugins(places: Iterable[str]) -> bool:
    """Return whether these places may contain anything to parse. Faster than ``discover``."""
    return any(os.path.isfile(place) or (os.path.isdir(place) and _may_have_plugins(place)) for place in places)


def _may_have_plugins(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(each.name[0] not in "_." and (each.name.endswith(".py") or each.is_dir()) for each in entries)
    except OSError:
        return False


def check_places(places: Iterable[str]) -> None:
    """Raise ConfigError for a place that cannot contain a plugin: MK0101 if it does not exist, MK0131 for a file
    that is not Python source.

    A problem of a plugin in a folder is that plugin's error, and so is a link that leads nowhere.
    """
    for place in places:
        if place.startswith(ENTRY_POINT):
            _check_entry_point(place.removeprefix(ENTRY_POINT))
        elif place != ALL_ENTRY_POINTS and not os.path.lexists(place):
            raise missing(place, ConfigError) if place else ConfigError("MK0101", path='""')
        elif place != ALL_ENTRY_POINTS and _is_no_source(place):
            raise ConfigError("MK0131", path=display_path(place))


def _is_no_source(path: str) -> bool:
    return os.path.exists(path) and not (os.path.isdir(path) or path.endswith(".py"))


def _check_entry_point(name: str) -> None:
    try:
        _entry_point(name)
    except ManifestError as error:
        raise ConfigError(error.id, **error.fields) from None


def find(path: str) -> PluginCandidate:
    """Return the plugin at one path: a file, a folder, or ``entry-point:NAME``."""
    if path.startswith(ENTRY_POINT):
        return _find_entry_point(path.removeprefix(ENTRY_POINT))
    try:
        full = os.path.abspath(path)
    except FileNotFoundError:  # the working folder no longer exists
        return _broken(stem(path), path, PluginLoadError("MK0101", path=path))
    return _read(full, full, stem(full), {})


def location(path: str) -> tuple[str, str]:
    """Return where the code of a ``Found.path`` is: a file, or a folder and its entry file. For a file the second is
    empty.

    Raises PluginLoadError MK0101 if it does not exist (any more).
    """
    if path.startswith(ENTRY_POINT):
        return _locate(_entry_point(path.removeprefix(ENTRY_POINT)))
    if not os.path.isdir(path):
        return path, ""
    entry = entry_of(path)
    if entry is None:
        raise PluginLoadError("MK0101", path=display_path(os.path.join(path, "__init__.py")))
    return path, entry


def _read(path: str, place: str, name: str, defaults: Mapping[str, Any]) -> PluginCandidate:
    """Read one plugin. ``path`` is its name for the kernel, ``place`` its location."""
    try:
        manifest = read_manifest(place, defaults)
        location(path)
    except PluginLoadError as error:
        gone = error.id == "MK0101" and not path.startswith(ENTRY_POINT) and not os.path.lexists(path)
        return _broken(name, path, missing(path, PluginLoadError) if gone else error)
    except Exception as mistake:  # a text can make a parser raise anything; the others are found
        return _broken(name, path, unforeseen(path, mistake, PluginLoadError))
    return PluginCandidate(manifest.name, path, manifest)


def _broken(name: str, path: str, error: PluginLoadError) -> PluginCandidate:
    """Return a plugin with an error. A name that is not valid Unicode is escaped, because no running plugin can have
    it."""
    name = valid_text(name)
    return PluginCandidate(name, path, Manifest(name), error)


def _one_a_name(found: Iterable[PluginCandidate]) -> Iterator[PluginCandidate]:
    first: dict[str, PluginCandidate] = {}
    for each in found:
        if each.error is None and (other := first.setdefault(each.name, each)) is not each:
            clash = {"name": each.name, "first": display_path(other.path), "second": display_path(each.path)}
            yield PluginCandidate(each.name, each.path, each.manifest, PluginLoadError("MK0107", **clash))
        else:
            yield each


# Folders


def _in_place(place: str) -> Iterator[PluginCandidate]:
    if place == ALL_ENTRY_POINTS:
        yield from map(_found_entry_point, _all_entry_points())
    elif place.startswith(ENTRY_POINT) or not os.path.isdir(place) or _is_plugin(place):
        yield find(place)
    else:
        yield from _in_folder(os.path.abspath(place))


def _in_folder(folder: str) -> Iterator[PluginCandidate]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as cause:
        yield _broken(stem(folder), folder, unreadable(folder, cause, PluginLoadError))
        return
    paths = [os.path.join(folder, name) for name in names if name[0] not in "_."]
    yield from (find(path) for path in paths if _looks_like_plugin(path))


def _looks_like_plugin(path: str) -> bool:
    """Return whether an entry of a plugin folder is a plugin: a Python file, or a folder with code or a
    ``plugin.toml``.

    Anything else is data. A link that leads nowhere may have been either; it is found, with an error.
    """
    if not os.path.isdir(path):
        return path.endswith(".py") or not os.path.exists(path)
    if _has(path, "plugin.toml"):
        return True
    entry = entry_of(path)
    return entry == "__init__.py" or (entry is not None and _has(path, "pyproject.toml"))


def _is_plugin(folder: str) -> bool:
    """Return whether a folder that is named as a place is one plugin. A folder with ``__init__.py`` may also be a
    folder of plugins; then that file does not mention Plugin."""
    if not _looks_like_plugin(folder):
        return False
    return _has(folder, "plugin.toml") or entry_of(folder) == "plugin.py" or _speaks_of_plugin(folder)


def is_place(place: str) -> bool:
    """Return whether a place is a path rather than an entry point."""
    return place != ALL_ENTRY_POINTS and not place.startswith(ENTRY_POINT)


def is_found_in(place: str, name: str) -> bool:
    """Return whether an entry of this name in a place belongs to a plugin."""
    path = os.path.join(place, name)
    return _is_plugin(place) or (os.path.lexists(path) and _looks_like_plugin(path))


def _speaks_of_plugin(folder: str) -> bool:
    try:
        return "Plugin" in read_text(os.path.join(folder, "__init__.py"), PluginLoadError, SOURCE_BYTES)
    except PluginLoadError:
        return True  # so that it is found and its error is reported


def _has(folder: str, name: str) -> bool:
    return os.path.lexists(os.path.join(folder, name))


# Entry points


def _all_entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # slow to load, and most have none

    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _entry_point(name: str) -> EntryPoint:
    for point in _all_entry_points():
        if point.name == name:
            return point
    raise ManifestError("MK0101", path=f"{ENTRY_POINT}{name}")


def _find_entry_point(name: str) -> PluginCandidate:
    try:
        return _found_entry_point(_entry_point(name))
    except PluginLoadError as error:
        return _broken(name, f"{ENTRY_POINT}{name}", error)


def _found_entry_point(point: EntryPoint) -> PluginCandidate:
    """Return the plugin of an entry point. Its path stays ``entry-point:NAME``, by which it must be found again."""
    path = f"{ENTRY_POINT}{point.name}"
    try:
        place, entry = _locate(point)
    except PluginLoadError as error:
        return _broken(point.name, path, error)
    except Exception as mistake:  # raised by the finder of an installed package
        return _broken(point.name, path, unforeseen(path, mistake, PluginLoadError))
    manifest = place if not entry or entry == "__init__.py" else os.path.join(place, entry)
    return _read(path, manifest, point.name, {"name": point.name, **_version(point)})


def _version(point: EntryPoint) -> dict[str, str]:
    return {"version": point.dist.version} if point.dist else {}


def _locate(point: EntryPoint) -> tuple[str, str]:
    """Return the file of a module, or the folder of its outermost package with code and the file in it. Imports
    nothing."""
    with_code: list[ModuleSpec] = []
    spec, folders, names = None, None, point.module.split(".")
    for length in range(1, len(names) + 1):
        spec = _spec(".".join(names[:length]), folders)
        folders = _folders_of(spec)
        if spec is not None and spec.has_location and spec.origin:
            with_code.append(spec)
    if spec is None or spec not in with_code:
        raise ManifestError("MK0101", path=f"{ENTRY_POINT}{point.name} ({point.value})")
    outer, inner = str(with_code[0].origin), str(spec.origin)
    if with_code[0].submodule_search_locations is None:
        return outer, ""
    folder = os.path.dirname(outer)
    return folder, os.path.relpath(inner, folder).replace(os.sep, "/")


def _folders_of(spec: ModuleSpec | None) -> Sequence[str]:
    """Return where the modules of a package are.

    A namespace package would look for its parents in ``sys.modules``, where they are not, so the folders found before
    are used.
    """
    folders = spec.submodule_search_locations if spec is not None else None
    return getattr(folders, "_path", folders) or []


def _spec(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    """Find a module like ``importlib.util.find_spec``, but without importing the packages around it. The finders of
    editable installs need the whole name."""
    for finder in list(sys.meta_path):
        wanted = name.rpartition(".")[2] if finder is PathFinder else name
        if (spec := finder.find_spec(wanted, folders, None)) is not None:
            return spec
    return None
