"""Connect plugins' modules to the import system: finders on ``sys.meta_path``, loaders, and the ownership of names.

Nothing here holds a lock: a plugin's thread may be killed at any bytecode, so shared state changes by single C calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from microkernel.errors import PluginLoadError
from microkernel.sdk.loading.module_loaders import Space
from microkernel.sdk.loading.module_names import PACKAGE, ModuleNames

_IMPORT_MACHINERY = frozenset(
    {
        "importlib",
        "importlib._bootstrap",
        "_frozen_importlib",
        "microkernel.sdk.loading.importer",
        "microkernel.sdk.loading.module_loaders",
        __name__,
    }
)


# The loaded namespaces, by the prefix of their modules' keys.
_spaces: dict[str, Space] = {}
# The loaded namespaces that have owned each public name; the last one owns it.
_owners: dict[str, list[Space]] = {}
# The namespace that each public name currently refers to.
shown: dict[str, Space] = {}


def add(space: Space) -> None:
    """Serve the imports of a namespace. Idempotent."""
    if space.key in _spaces:
        return
    _spaces[space.key] = space
    # One entry per namespace: adding and removing are single C calls, and while one is left all namespaces are served.
    sys.meta_path.insert(0, _FINDER)
    sys.meta_path.append(_BORDER)


def remove(space: Space) -> bool:
    """Stop serving the imports of a namespace. Return whether it was served."""
    if _spaces.pop(space.key, None) is None:
        return False
    for entry in (_FINDER, _BORDER):
        if entry in sys.meta_path:
            sys.meta_path.remove(entry)
    owners = _owners.get(space.prefix, [])
    while space in owners:
        owners.remove(space)
    for folder, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, _FolderFinder) and finder.root == space.root and not _last_of(space.root):
            sys.path_importer_cache.pop(folder, None)
    return True


def spaces() -> list[Space]:
    return list(_spaces.values())


def _last_of(root: str) -> Space | None:
    """Return the last namespace that was loaded from this folder."""
    return next((space for space in reversed(spaces()) if space.root == root), None)


def own(space: Space) -> None:
    """Make a namespace the owner of its public names. Idempotent."""
    if owner_of(space.prefix) is not space:
        _owners.setdefault(space.prefix, []).append(space)


def owner_of(prefix: str) -> Space | None:
    owners = _owners.get(prefix, [])[-1:]
    return owners[0] if owners else None


def release(names: ModuleNames) -> None:
    """Release the names of a closed kernel, so that the next one in this process may use them, also those of plugins
    that could not be ended. Idempotent."""
    for prefix in list(_owners):
        if prefix.rpartition(".")[0] == names.package:
            _owners.pop(prefix, None)
    names.release()


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def below(prefix: str) -> list[str]:
    """Return the keys in ``sys.modules`` of a module and its submodules."""
    return [name for name in list(sys.modules) if is_below(name, prefix)]


def forget_packages() -> None:
    """Remove the packages of public names when the last name in them is gone."""
    for package in below(PACKAGE):
        loader = getattr(sys.modules.get(package), "__loader__", None)
        if loader is _PACKAGE_LOADER and not _holds_names(package):
            sys.modules.pop(package, None)


def _holds_names(package: str) -> bool:
    return any(prefix.startswith(f"{package}.") for prefix in list(shown))


def space_of(fullname: str) -> Space | None:
    """Return the namespace that has a module, by its key or its public name."""
    parts = fullname.split(".")
    if parts[0] != PACKAGE:
        return _spaces.get(parts[0])
    prefixes = [".".join(parts[:length]) for length in (3, 2) if len(parts) >= length]
    return next((space for each in prefixes if (space := shown.get(each) or owner_of(each)) is not None), None)


class _Finder:
    """Finds the modules of all namespaces. It is first on ``sys.meta_path``, because other finders would search every
    folder of ``sys.path`` for them."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE):
            return None
        space = space_of(fullname)
        if space is not None:
            return space.find(fullname) if is_below(fullname, space.key) else _alias(space, fullname)
        return ModuleSpec(fullname, _PACKAGE_LOADER, is_package=True) if _holds_names(fullname) else None


def _alias(space: Space, public: str) -> ModuleSpec | None:
    found = space.find(space.private(public))
    if found is None:
        return None
    loader: Any = _AliasLoader(space, found.loader)
    spec = ModuleSpec(public, loader, origin=found.origin)
    spec.has_location, spec.submodule_search_locations = found.has_location, found.submodule_search_locations
    return spec


class _PackageLoader:
    """The loader of ``mkplugin`` and ``mkplugin.<kernel>``."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


class _Package(ModuleType):
    """A package that stores none of its modules.

    The generation that a name refers to changes and ends, so a module is looked up at each access. The import system
    sets each imported module as an attribute of its package, which would outlive the generation.
    """

    def __getattr__(self, child: str) -> ModuleType:
        try:
            return sys.modules[f"{self.__name__}.{child}"]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {child!r}", name=child) from None

    def __setattr__(self, name: str, value: object) -> None:
        if sys.modules.get(f"{self.__name__}.{name}") is not value:
            super().__setattr__(name, value)


class _AliasLoader:
    """Returns the module of a generation for its public name."""

    def __init__(self, space: Space, loader: object) -> None:
        self._space = space
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        """Delegate to the module's own loader, which has the source, the code and the data."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._space.private(spec.name))
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec, because the module has already run and the import system has replaced its spec by the
        alias's."""
        module.__spec__ = self._spec


class _FolderFinder:
    """Replaces the import system's finder of a plugin's folder: modules that are not in the snapshot are not found.
    Imports by others from that folder are not changed."""

    def __init__(self, folder: str, root: str) -> None:
        self.folder = folder
        self.root = root

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        finder = None if fullname.startswith(PACKAGE) else self._others()
        return None if finder is None else finder.find_spec(fullname, target)

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Yield modules for ``pkgutil.iter_modules``."""
        space = _last_of(self.root)
        for name, is_package in space.members(self.folder) if space is not None else ():
            yield prefix + name, is_package

    def _others(self) -> Any:
        for hook in sys.path_hooks:
            with suppress(ImportError):  # this hook does not handle the path
                return hook(self.folder)
        return None


def keep_from_disk(folder: str, root: str) -> None:
    """Register a folder that the plugin's packages name, so that only the snapshot's modules are imported from it."""
    if not isinstance(sys.path_importer_cache.get(folder), _FolderFinder):
        sys.path_importer_cache[folder] = _FolderFinder(folder, root)


class _CrossImportGuard:
    """Refuses imports of another plugin's modules, with the line to write instead. It is last on ``sys.meta_path``, so
    it sees only modules that no other finder found.

    Only imports by the plugin's own modules are attributed to the plugin, not those by a library that it uses.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        frame = _importing_frame()
        importer = space_of(_key_of(frame)) if frame else None
        if frame and importer and fullname in importer.peers:
            raise _refusal(fullname, frame)
        return None


_FINDER = _Finder()
_BORDER = _CrossImportGuard()
_PACKAGE_LOADER: Any = _PackageLoader()


def _refusal(other: str, frame: FrameType) -> ModuleNotFoundError:
    instead = f'self.api.call("{other}.<method>", ...)'
    reason = PluginLoadError("MK0118", path=frame.f_code.co_filename, line=frame.f_lineno, other=other, instead=instead)
    refusal = ModuleNotFoundError(str(reason), name=other)
    refusal.__cause__ = reason
    return refusal


def _importing_frame() -> FrameType | None:
    """Return the innermost frame that is not the import machinery's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")) in _IMPORT_MACHINERY:
        frame = frame.f_back
    return frame


def _key_of(frame: FrameType) -> str:
    """Return the key of the module whose code runs in a frame."""
    spec = frame.f_globals.get("__spec__")
    return str(getattr(spec, "name", ""))


def is_elsewhere(name: str, root: str) -> bool:
    """Return whether another module of that name exists that has code and is not the plugin in ``root``."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    finders = [each for each in list(sys.meta_path) if each not in (_FINDER, _BORDER)]
    found = loaded or next(filter(None, (finder.find_spec(name, None, None) for finder in finders)), None)
    if found is None or (found.origin is None and name not in sys.modules):
        return False
    folders = found.submodule_search_locations or [os.path.dirname(found.origin or "")]
    return os.path.realpath(root) not in map(os.path.realpath, folders)
