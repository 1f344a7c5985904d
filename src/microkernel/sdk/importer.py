"""Runs a plugin's modules from a snapshot of their source, in a namespace of their own.

A module space is one plugin in one generation. Its modules are in ``sys.modules`` below a name that no other space of
this process has, ``mkplugin_<plugin>_g<generation>_<n>`` (``-`` is ``_``; ``n`` counts the spaces of this process):

* a package is that name itself, and ``helper.py`` in it is ``mkplugin_hello_g2_1.helper``;
* a single file is that name itself;
* in a folder with a ``plugin.py`` the files lie beside each other below that name: ``mkplugin_hello_g2_1.plugin``.

Plugins write other names: ``import hello.helper`` in a package, ``import helper`` beside ``plugin.py``. ``sys.modules``
belongs to the whole process, so these names cannot stand there. Instead the modules of such a plugin get builtins with
an ``__import__`` of their own, so that each import statement is known to be the plugin's. That has two limits:
``importlib.import_module`` knows nothing of it (``import_module(".helper", __package__)`` works, as relative imports
always do), and what others put into ``builtins`` later is not seen by such a plugin.

Nothing here holds a lock: a plugin's thread may be killed at any bytecode, so shared state changes by single C calls.
"""

from __future__ import annotations

import builtins
import linecache
import sys
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from itertools import count
from types import FrameType, ModuleType
from typing import Any

from microkernel.errors import PluginLoadError

_serial = count(1)
_spaces: dict[str, ModuleSpace] = {}
"""The spaces that are loaded, by the name their modules begin with."""
_IMPORT_MACHINERY = frozenset({"importlib", "importlib._bootstrap", "_frozen_importlib", __name__})


class ModuleSpace:
    """The modules of one plugin in one generation. ``sources`` maps POSIX paths below ``root`` to UTF-8 bytes.

    ``load`` may be called in several threads for several spaces at once.
    """

    def __init__(
        self,
        name: str,
        generation: int,
        root: str,
        entry: str,
        package: bool,
        sources: Mapping[str, bytes],
        peers: Collection[str],
    ) -> None:
        self.prefix = f"mkplugin_{name.replace('-', '_')}_g{generation}_{next(_serial)}"
        self.root = root
        self.sources = sources
        self.peers = frozenset(peers)
        self._package = package
        alone = not package and len(sources) == 1
        self._files = {"": entry} if alone else _modules(sources)
        self._folders = set() if alone else {"", *_folders(sources)}
        self._entry = self.prefix if self._files.get("") == entry else f"{self.prefix}.{_dotted(entry)}"
        self._own_names = self._find_own_names(name)
        self._shown: set[str] = set()

    def load(self) -> ModuleType:
        """Import the entry. Raises what its code raises; ``unload`` is due then too, after the traceback was read."""
        if self.prefix not in _spaces:
            _spaces[self.prefix] = self
            # One entry of each a space: adding and removing are single C calls, and while one is left all are served.
            sys.meta_path.insert(0, _FINDER)
            sys.meta_path.append(_BORDER)
        return import_module(self._entry)

    def unload(self) -> None:
        """Forget all modules. What still holds one of them afterwards is not the importer. Twice is once."""
        if _spaces.pop(self.prefix, None) is None:
            return
        for entry in (_FINDER, _BORDER):
            if entry in sys.meta_path:
                sys.meta_path.remove(entry)
        for name in self._loaded():
            sys.modules.pop(name, None)
        for source in list(self._shown):
            linecache.cache.pop(self.path(source), None)
        self._give_back_lines()

    def modules(self) -> list[ModuleType]:
        """Those that are imported by now."""
        return [sys.modules[name] for name in self._loaded() if name in sys.modules]

    def path(self, source: str) -> str:
        """Where a source was read: the ``__file__`` of its module."""
        return f"{self.root.rstrip('/')}/{source}"

    def find(self, fullname: str) -> ModuleSpec | None:
        """The spec of one of the space's modules. A folder without ``__init__.py`` is an empty package."""
        name = fullname[len(self.prefix) + 1 :]
        source = self._files.get(name)
        if source is None and name not in self._folders:
            return None
        loader: Any = _SourceLoader(self, source)
        origin = None if source is None else self.path(source)
        spec = ModuleSpec(fullname, loader, origin=origin, is_package=name in self._folders)
        spec.has_location = origin is not None
        return spec

    def text(self, source: str) -> str:
        return self.sources[source].removeprefix(BOM_UTF8).decode()

    def show_lines(self, source: str) -> None:
        """Let tracebacks show this source for its path, whatever the file holds by now.

        Two generations share their paths; the one that came last is shown.
        """
        text = self.text(source)
        self._shown.add(source)
        lines = [line + "\n" for line in text.split("\n")]
        # Without a time of change, linecache never compares the entry with the file.
        linecache.cache[self.path(source)] = (len(text), None, lines, self.path(source))

    def namespace(self) -> dict[str, Any]:
        """What a module starts with."""
        return {"__builtins__": {**vars(builtins), "__import__": self._import}} if self._own_names else {}

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """``__import__`` for this plugin's modules: its own come from the space."""
        top = name.partition(".")[0]
        if level or top not in self._own_names:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(self._private(name), globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[self._private(top)]

    def _private(self, name: str) -> str:
        """What a module is called here that the plugin calls ``name``."""
        if not self._package:
            return f"{self.prefix}.{name}"
        _, dot, rest = name.partition(".")
        return self.prefix + dot + rest

    def _find_own_names(self, name: str) -> set[str]:
        """The top-level names the plugin may write for its own modules.

        A package goes by its folder's name and the plugin's; the files beside a ``plugin.py`` by theirs. A package
        never hides a module of Python.
        """
        if self._package:
            folder = self.root.rstrip("/").rpartition("/")[2]
            names = {folder} if folder == name or _is_importable(name) else {folder, name}
            return names - sys.stdlib_module_names - {"microkernel"}
        return {each.partition(".")[0] for each in (*self._files, *self._folders)} - {"", "microkernel"}

    def _loaded(self) -> list[str]:
        return [name for name in list(sys.modules) if name.partition(".")[0] == self.prefix]

    def _give_back_lines(self) -> None:
        """A generation that goes on while a later one was given up shows its own lines again."""
        for space in list(_spaces.values()):
            if space.root == self.root:
                for source in space._shown & self._shown:
                    space.show_lines(source)


class _SourceLoader:
    """A ``Loader`` of one source; of an empty package without."""

    def __init__(self, space: ModuleSpace, source: str | None) -> None:
        self.space = space
        self.source = source

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        if self.source is None:
            return
        self.space.show_lines(self.source)
        module.__dict__.update(self.space.namespace())
        path = self.space.path(self.source)
        exec(compile(self.space.text(self.source), path, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        """For ``inspect`` and ``linecache``."""
        return "" if self.source is None else self.space.text(self.source)


class _Finder:
    """Finds the modules of all spaces. It comes first on ``sys.meta_path``: others would look through every folder of
    ``sys.path`` for what only it can have."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        space = _spaces.get(fullname.partition(".")[0])
        return None if space is None else space.find(fullname)


class _Border:
    """Comes last on ``sys.meta_path``, so it only sees what nobody found; when it is a plugin that wanted it, and it is
    another plugin, it says what to write.

    Only what the plugin's own modules import is known to be the plugin's; not what a library imports for it.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        frame = _importing_frame()
        importer = _spaces.get(_module_name(frame).partition(".")[0]) if frame else None
        if frame and importer and fullname in importer.peers:
            raise _refusal(fullname, frame)
        return None


_FINDER = _Finder()
_BORDER = _Border()


def _refusal(other: str, frame: FrameType) -> ModuleNotFoundError:
    instead = f'self.api.call("{other}.<method>", ...)'
    reason = PluginLoadError("MK0118", path=frame.f_code.co_filename, line=frame.f_lineno, other=other, instead=instead)
    refusal = ModuleNotFoundError(str(reason), name=other)
    refusal.__cause__ = reason
    return refusal


def _importing_frame() -> FrameType | None:
    """The innermost frame that is not the import machinery's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _module_name(frame) in _IMPORT_MACHINERY:
        frame = frame.f_back
    return frame


def _module_name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _dotted(path: str) -> str:
    """``sub/x.py`` is ``sub.x``, ``sub/__init__.py`` is ``sub``."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules(sources: Collection[str]) -> dict[str, str]:
    """Sources by the dotted names of their modules. Where ``x.py`` and ``x/__init__.py`` are both there, the folder
    wins, as on disk."""
    return {_dotted(path): path for path in sorted(sources, key=lambda path: path.endswith("/__init__.py"))}


def _folders(sources: Collection[str]) -> set[str]:
    """The packages that the paths imply, but for the root."""
    folders = (source.split("/")[:-1] for source in sources)
    return {".".join(parts[:length]) for parts in folders for length in range(1, len(parts) + 1)}


def _is_importable(name: str) -> bool:
    """Whether somebody else has a module of that name."""
    if name in sys.modules:
        return True
    return any(finder.find_spec(name, None, None) is not None for finder in list(sys.meta_path))
