"""Loaders of plugins' modules: sources, C extensions, and data files on disk or in an archive."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Protocol


class Space(Protocol):
    """The interface of ``PluginNamespace`` that the finders use."""

    plugin: str
    prefix: str
    key: str
    entry: str
    root: str
    peers: frozenset[str]
    sources: Mapping[str, bytes]

    def find(self, fullname: str) -> ModuleSpec | None: ...
    def private(self, public: str) -> str: ...
    def public(self, fullname: str) -> str: ...
    def parent_of(self, spec: ModuleSpec) -> str: ...
    def path(self, source: str) -> str: ...
    def text(self, source: str) -> str: ...
    def members(self, folder: str) -> Iterator[tuple[str, bool]]: ...
    def show_lines(self, source: str) -> None: ...
    def show_lines_again(self, shown: set[str]) -> None: ...
    def namespace(self) -> dict[str, Any]: ...
    def show(self) -> None: ...
    def publish(self, fullname: str, module: ModuleType) -> None: ...
    def withdraw(self, fullname: str, module: ModuleType) -> None: ...


class SourceLoader:
    """A ``Loader`` of one source, or of a package without code if there is no source. Data files are on disk, or in the
    archive that contains the plugin."""

    def __init__(self, space: Space, source: str | None, folder: str) -> None:
        self.space = space
        self.source = source
        # ``importlib.resources`` searches the folder of this path.
        self.path = space.path(source) if source is not None else f"{folder}/__init__.py"

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None to create an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        module.__name__, module.__package__ = self.space.public(spec.name), self.space.parent_of(spec)
        self.space.publish(spec.name, module)
        if self.source is None:
            if spec.name == self.space.key:
                module.__getattr__ = partial(_of_entry, self.space)  # type: ignore[method-assign]
            return
        self.space.show_lines(self.source)
        module.__dict__.update(self.space.namespace())
        try:
            exec(self.get_code(spec.name), module.__dict__)
        except BaseException:
            self.space.withdraw(spec.name, module)
            raise

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """Return the code; used by ``runpy`` too."""
        text = "" if self.source is None else self.space.text(self.source)
        return compile(text, self.path, "exec", dont_inherit=True)

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        """Return the source, for ``inspect`` and ``linecache``."""
        return "" if self.source is None else self.space.text(self.source)

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        return self.path

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002
        return self.source is None or self.source.rpartition("/")[2] == "__init__.py"

    def get_data(self, path: str) -> bytes:
        """Return data for ``pkgutil.get_data``: a source as it was read, other files as they are."""
        name = os.path.normpath(path).removeprefix(f"{self.space.root}/")
        if name in self.space.sources:
            return self.space.sources[name]
        if (archive := archive_of(self.space.root)) is not None:
            return bytes(archive.get_data(path))
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, fullname: str) -> Any:  # noqa: ARG002
        """Return a reader for ``importlib.resources``."""
        from importlib.resources import readers  # slow to load, and most plugins have no data

        if (archive := archive_of(self.space.root)) is not None:
            return _ArchiveReader(archive.archive, os.path.dirname(self.path)[len(archive.archive) + 1 :] + "/")
        return readers.FileReader(self)  # type: ignore[arg-type]


def _of_entry(space: Space, name: str) -> Any:
    """Return an attribute of ``mkplugin.hello`` for a plugin whose entry is ``mkplugin.hello.plugin``."""
    entry = sys.modules.get(space.entry)
    if entry is None or name.startswith("__") or space.find(f"{space.key}.{name}") is not None:
        raise AttributeError(f"module {space.prefix!r} has no attribute {name!r}", name=name)
    return getattr(entry, name)


class ExtensionLoader(ExtensionFileLoader):
    """The loader of a C extension next to the sources."""

    def __init__(self, space: Space, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._space = space

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        module.__name__, module.__package__ = self._space.public(spec.name), self._space.parent_of(spec)
        self._space.publish(spec.name, module)
        super().exec_module(module)


def archive_of(root: str) -> Any:
    """Return the importer of the archive (a wheel) that a folder is in; None for a folder on disk."""
    from zipimport import ZipImportError, zipimporter

    if os.path.exists(root):
        return None
    with suppress(ZipImportError):  # it no longer exists, or is not visible from here
        return zipimporter(root)
    return None


class _ArchiveReader:
    """Reader of data files in an archive, for ``importlib.resources``."""

    def __init__(self, archive: str, folder: str) -> None:
        self._place = archive, folder

    def files(self) -> Any:
        from zipfile import Path

        return Path(*self._place)
