"""Import a plugin's modules from a snapshot of their source.

A namespace contains the modules of one plugin in one generation. Their names are below ``mkplugin.<plugin>``, the same
in every generation (``module_names.py``):

* a package has that name, and its ``helper.py`` is ``mkplugin.hello.helper``;
* a single file has that name;
* in a folder with a ``plugin.py``, the files are siblings below that name: ``mkplugin.hello.plugin``. Attributes of
  ``mkplugin.hello`` itself are looked up in that module.

If a process loads only one generation, these names are the keys in ``sys.modules``, and everything is plain Python. If
it may load two (``ModuleNames.shared``, the level ``thread``), the import system knows each generation's modules by
private keys, ``mkplugin-<n>-<plugin>``, so that imports of one generation never find the other's modules or locks. The
public names are second entries for the same modules. They refer to the generation that *owns* the name, and to another
one only while that one is being imported (``load``), until it takes the name over (``take_over``).

Plugins also use other names: ``import hello.helper`` in a package, ``import helper`` next to ``plugin.py``. These names
cannot be entries of ``sys.modules``, which belongs to the whole process. Instead, the modules of such a plugin have
builtins with a different ``__import__``, which identifies import statements of the plugin. This has two limits:
``importlib.import_module`` does not know these names (``import_module(".helper", __package__)`` works, as relative
imports do), and such a plugin does not see what others add to ``builtins`` later.

Nothing here holds a lock: a plugin's thread may be killed at any bytecode, so shared state changes by single C calls.
"""

from __future__ import annotations

import builtins
import linecache
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import resolve_name, spec_from_file_location
from itertools import count
from types import ModuleType
from typing import Any

from microkernel.sdk.loading import module_finders as finders
from microkernel.sdk.loading.module_loaders import ExtensionLoader, SourceLoader
from microkernel.sdk.loading.module_names import PACKAGE, ModuleNames

_serial = count(1)
# Entry of a folder whose files are siblings. It has this name even if it is the only file.
_FOLDER_ENTRY = "plugin.py"


class PluginNamespace:
    """The modules of one plugin in one generation. ``sources`` maps POSIX paths relative to ``root`` to UTF-8 bytes.

    ``load`` may be called in several threads for different namespaces at the same time.
    """

    def __init__(
        self,
        name: str,
        root: str,
        entry: str,
        package: bool,
        sources: Mapping[str, bytes],
        peers: Collection[str],
        names: ModuleNames | None = None,
    ) -> None:
        names = names or ModuleNames()
        self.plugin = name
        self.prefix = names.of(name)
        self.is_private = names.shared
        self.key = f"{PACKAGE}-{next(_serial)}-{name}" if names.shared else self.prefix
        self.root = root.rstrip("/")
        self.sources = sources
        self.peers = frozenset(peers)
        self._package = package
        self._alone = not package and len(sources) == 1 and entry != _FOLDER_ENTRY
        self._files = {"": entry} if self._alone else _modules(sources)
        self._folders = set() if self._alone else {"", *_folders(sources)}
        self.entry = self.key if self._files.get("") == entry else f"{self.key}.{_dotted(entry)}"
        self._public = {self.key: self.prefix}
        self._own_names = self._find_own_names(name)
        self._libraries: dict[str, bool] = {}
        self._shown: set[str] = set()

    def load(self) -> ModuleType:
        """Import the entry module and return it. Raises what its code raises; then call ``unload`` after reading the
        traceback."""
        finders.add(self)
        if finders.owner_of(self.prefix) is None:
            finders.own(self)
        self.show()
        try:
            return import_module(self.entry)
        finally:
            self.yield_name()

    def take_over(self) -> None:
        """Take ownership of the public names, because the previous generation has stopped."""
        finders.own(self)
        self.show()

    def yield_name(self) -> None:
        """Return the public names to the generation that owns them. Idempotent, from any thread."""
        owner = finders.owner_of(self.prefix)
        if owner is not None:
            owner.show()

    def unload(self) -> None:
        """Remove all modules from the import system. Idempotent. References that remain are not the importer's."""
        if not finders.remove(self):
            return
        modules = self._by_public_name()
        for name in self._loaded():
            sys.modules.pop(name, None)
        self._hide(modules)
        for source in list(self._shown):
            linecache.cache.pop(self.path(source), None)
        for other in finders.spaces():
            if other.root == self.root:
                other.show_lines_again(self._shown)

    def modules(self) -> list[ModuleType]:
        """Return the modules that are imported so far."""
        return [sys.modules[name] for name in self._loaded() if name in sys.modules]

    def names(self) -> list[str]:
        """Return the names of the modules, as the same str objects that the modules, classes and functions of this
        generation have."""
        return list(self._public.values())

    def path(self, source: str) -> str:
        """Return the path that a source was read from: the ``__file__`` of its module."""
        return f"{self.root}/{source}"

    def public(self, fullname: str) -> str:
        """Return the public name of a module; always the same str object for a module of one generation."""
        return self._public.setdefault(fullname, self.prefix + fullname[len(self.key) :])

    def private(self, public: str) -> str:
        """Return the key of the module with this public name."""
        return self.key + public[len(self.prefix) :]

    def parent_of(self, spec: ModuleSpec) -> str:
        """Return the ``__package__`` of a module."""
        return "" if self._alone else self.public(spec.parent or "")

    def find(self, fullname: str) -> ModuleSpec | None:
        """Return the spec of one of the namespace's modules. A folder without ``__init__.py`` is a package without
        code. C extensions exist only on disk."""
        name = fullname[len(self.key) + 1 :]
        source = self._files.get(name)
        is_package = name in self._folders
        folder = f"{self.root}/{name.replace('.', '/')}".rstrip("/")
        if source is None and not is_package:
            return None if self._alone else self._find_on_disk(fullname, folder)
        loader: Any = SourceLoader(self, source, folder)
        spec = ModuleSpec(fullname, loader, origin=loader.path if source else None, is_package=is_package)
        spec.has_location = source is not None
        return self._as_package(spec, folder) if is_package else spec

    def _as_package(self, spec: ModuleSpec, folder: str) -> ModuleSpec:
        spec.submodule_search_locations = [folder]
        finders.keep_from_disk(folder, self.root)
        return spec

    def _find_on_disk(self, fullname: str, folder: str) -> ModuleSpec | None:
        for suffix in EXTENSION_SUFFIXES:
            if os.path.isfile(folder + suffix):
                loader: Any = ExtensionLoader(self, fullname, folder + suffix)
                return spec_from_file_location(fullname, folder + suffix, loader=loader)
        if not os.path.isdir(folder):
            return None
        empty: Any = SourceLoader(self, None, folder)
        return self._as_package(ModuleSpec(fullname, empty, is_package=True), folder)

    def members(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Return the modules in one of the folders, by name, and whether each is a package."""
        inside = f"{folder[len(self.root) + 1 :]}/".lstrip("/")
        found: dict[str, bool] = {}
        for source in self.sources:
            name, _, rest = source.removeprefix(inside).partition("/")
            if source.startswith(inside) and source != f"{inside}__init__.py":
                if not rest:
                    found.setdefault(name.removesuffix(".py"), False)
                elif rest == "__init__.py":
                    found[name] = True
        for name in _extensions_in(folder):
            found.setdefault(name, False)
        return iter(sorted(found.items()))

    def text(self, source: str) -> str:
        return self.sources[source].removeprefix(BOM_UTF8).decode()

    def show_lines(self, source: str) -> None:
        """Let tracebacks show this source for its path, whatever the file now contains.

        Two generations share their paths; the last one loaded is shown.
        """
        text = self.text(source)
        self._shown.add(source)
        lines = [line + "\n" for line in text.removesuffix("\n").split("\n")]
        # Without a modification time, linecache never compares the entry with the file.
        linecache.cache[self.path(source)] = (len(text), None, lines, self.path(source))

    def show_lines_again(self, shown: set[str]) -> None:
        """Show this generation's lines again, because it keeps running after a later one was given up."""
        for source in self._shown & shown:
            self.show_lines(source)

    # Public names

    def publish(self, fullname: str, module: ModuleType) -> None:
        """Enter a module under its public name before it runs, if this generation has the name."""
        if self.is_private and finders.shown.get(self.prefix) is self:
            sys.modules[self.public(fullname)] = module

    def withdraw(self, fullname: str, module: ModuleType) -> None:
        """Remove a module whose code raised."""
        if self.is_private and sys.modules.get(self.public(fullname)) is module:
            sys.modules.pop(self.public(fullname), None)

    def show(self) -> None:
        finders.shown[self.prefix] = self
        if not self.is_private:
            return
        own = self._by_public_name()
        for name in finders.below(self.prefix):
            if name not in own:
                sys.modules.pop(name, None)
        sys.modules.update(own)

    def _hide(self, own: Mapping[str, ModuleType]) -> None:
        """Remove the public names of these modules. Also repairs the effects of a kill during ``load``."""
        if self.is_private:
            for name, module in own.items():
                if sys.modules.get(name) is module:
                    sys.modules.pop(name, None)
        if finders.shown.get(self.prefix) is self:
            finders.shown.pop(self.prefix, None)
        self.yield_name()
        finders.forget_packages()

    def _by_public_name(self) -> dict[str, ModuleType]:
        return {self.public(name): sys.modules[name] for name in self._loaded() if name in sys.modules}

    def _loaded(self) -> list[str]:
        return finders.below(self.key)

    # Import statements

    def namespace(self) -> dict[str, Any]:
        """Return the initial namespace of a module."""
        if not self._own_names and (self._alone or not self.is_private):
            return {}
        return {"__builtins__": {**vars(builtins), "__import__": self._import}}

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The ``__import__`` of this plugin's modules: its own modules come from this namespace."""
        own = self._own(name, globals, level)
        if not own:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        top = name.partition(".")[0]
        if not level and top in self._own_names and self._is_library(top):
            library = self._from_library(name, own, fromlist)
            if library is not None:
                return library
        try:
            module = self._import_own(own, fromlist or ())
        except ModuleNotFoundError as error:
            if error.name and finders.is_below(error.name, self.key):
                error.msg = error.msg.replace(error.name, self.public(error.name))
                error.name = self.public(error.name)
            raise
        if fromlist or level:
            return module
        return builtins.__import__(PACKAGE) if top == PACKAGE else sys.modules[self._private(top)]

    def _own(self, name: str, globals: Mapping[str, object] | None, level: int) -> str:
        """Return the key of the module if it is one of the plugin's own."""
        if level:
            parent = getattr((globals or {}).get("__spec__"), "parent", None)
            return resolve_name("." * level + name, parent) if self.is_private and parent else ""
        if self.is_private and finders.is_below(name, self.prefix):
            return self.private(name)
        return self._private(name) if name.partition(".")[0] in self._own_names else ""

    def _import_own(self, key: str, fromlist: Sequence[str]) -> ModuleType:
        """Import a module, and the submodules that are named in the import. The import system would look for those by
        the public name of the package, which may refer to another generation."""
        module = import_module(key)
        names = [*fromlist, *getattr(module, "__all__", ())] if "*" in fromlist else fromlist
        for each in names:
            if each != "*" and not hasattr(module, each) and hasattr(module, "__path__") and self.find(f"{key}.{each}"):
                setattr(module, each, import_module(f"{key}.{each}"))  # before it has run, if the imports are circular
        return module

    def _private(self, name: str) -> str:
        """Return the private name of a module that the plugin calls ``name``."""
        if not self._package:
            return f"{self.key}.{name}"
        _, dot, rest = name.partition(".")
        return self.key + dot + rest

    def _find_own_names(self, name: str) -> set[str]:
        """Return the top-level names that the plugin may use for its own modules.

        For a package these are the name of its folder and of the plugin, for files next to a ``plugin.py`` their own
        names. A package never hides a module of Python or an installed library (``_is_library``).
        """
        if self._alone:
            return set()
        if self._package:
            return {self.root.rpartition("/")[2], name} - sys.stdlib_module_names - {"microkernel"}
        found = {each.partition(".")[0] for each in (*self._files, *self._folders)}
        return found.union(_extensions_in(self.root)) - {"", "microkernel"}

    def _is_library(self, top: str) -> bool:
        """Return whether a library has this name, and not only the plugin's package."""
        if not self._package:
            return False
        if top not in self._libraries:
            self._libraries[top] = finders.is_elsewhere(top, self.root)
        return self._libraries[top]

    def _from_library(self, name: str, own: str, fromlist: Sequence[str] | None) -> ModuleType | None:
        """Return the library's module of that name; None if only the plugin's package has it."""
        try:
            module = builtins.__import__(name, None, None, fromlist or (), 0)
        except ModuleNotFoundError as error:
            if error.name != name or self.find(own) is None:
                raise
            return None
        missing = [each for each in fromlist or () if each != "*" and not hasattr(module, each)]
        return None if any(self.find(f"{own}.{each}") for each in missing) else module


def serve(folder: str) -> None:
    """Import a plugin's modules from the snapshot that its worker wrote to ``folder``, in a process that the plugin
    started."""
    import marshal

    with open(f"{folder}/snapshot", "rb") as file:
        space = PluginNamespace(*marshal.load(file))
    finders.add(space)
    finders.own(space)
    space.show()


def _dotted(path: str) -> str:
    """Return the dotted name of a path: ``sub.x`` for ``sub/x.py``, ``sub`` for ``sub/__init__.py``."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules(sources: Collection[str]) -> dict[str, str]:
    """Return the sources by the dotted names of their modules. If both ``x.py`` and ``x/__init__.py`` exist, the folder
    wins, as on disk."""
    return {_dotted(path): path for path in sorted(sources, key=lambda path: path.endswith("/__init__.py"))}


def _folders(sources: Collection[str]) -> set[str]:
    """Return the packages that the paths imply, except the root."""
    folders = (source.split("/")[:-1] for source in sources)
    return {".".join(parts[:length]) for parts in folders for length in range(1, len(parts) + 1)}


def _extensions_in(folder: str) -> set[str]:
    """Return the names of the C extensions in a folder."""
    try:
        files = os.listdir(folder)
    except OSError:  # not a folder: a path in a wheel, or deleted since
        return set()
    return {name.partition(".")[0] for name in files if name.endswith(tuple(EXTENSION_SUFFIXES))}
