"""The standard library of a guest: the modules that are loaded into the image, the layout of its files for guests, and
patches of some modules.

Modules that are loaded while the image is built are in a guest's memory from the start. All others, and those that a
program imports again, are imported from the files.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import py_compile
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = (
    "__future__", "abc", "argparse", "array", "ast", "asyncio", "base64", "binascii", "bisect", "calendar", "cmath",
    "codecs", "collections", "collections.abc", "colorsys", "concurrent.futures", "concurrent.futures.thread",
    "configparser", "contextlib", "contextvars", "copy", "copyreg", "csv", "dataclasses", "datetime", "decimal",
    "difflib", "email", "enum", "errno", "fnmatch", "fractions", "functools", "gc", "getpass", "gettext", "glob",
    "graphlib", "gzip", "hashlib", "heapq", "hmac", "html", "html.entities", "html.parser", "http", "http.client",
    "http.cookiejar", "http.cookies", "importlib", "importlib.abc", "importlib.machinery", "importlib.metadata",
    "importlib.resources", "importlib.resources.readers", "importlib.util", "inspect", "io", "ipaddress", "itertools",
    "json", "keyword", "linecache", "locale", "logging", "logging.handlers", "math", "mimetypes", "numbers",
    "operator", "optparse", "os", "pathlib", "pickle", "pickletools", "platform", "plistlib", "posixpath", "pprint",
    "queue", "quopri", "random", "re", "reprlib", "sched", "secrets", "selectors", "shlex", "shutil", "signal",
    "socket", "stat", "statistics", "string", "stringprep", "_strptime", "struct", "symtable", "sys", "tempfile",
    "textwrap", "threading", "time", "timeit", "token", "tokenize", "tomllib", "traceback", "types", "typing",
    "unicodedata", "urllib.error", "urllib.parse", "urllib.request", "uuid", "warnings", "weakref",
    "xml.etree.ElementTree", "xml.sax.saxutils", "zipfile", "zipimport", "zlib", "zoneinfo",
    "encodings.ascii", "encodings.latin_1", "encodings.utf_8", "encodings.utf_8_sig", "encodings.utf_16",
    "encodings.utf_16_le", "encodings.utf_16_be", "encodings.utf_32", "encodings.cp1252", "encodings.idna",
    "encodings.punycode", "encodings.unicode_escape", "encodings.raw_unicode_escape", "encodings.hex_codec",
    "encodings.base64_codec", "encodings.gb18030", "encodings.gbk", "encodings.cp437", "encodings.cp1250",
    "encodings.cp1251", "encodings.iso8859_2", "encodings.iso8859_15", "encodings.big5", "encodings.shift_jis",
    "encodings.euc_jp", "encodings.euc_kr", "encodings.utf_7",
)  # fmt: skip
# The path for which the interpreter is built; ``hosts/wasm/host.py`` mounts the files at the same place.
LIBRARY = Path("/python")
# Modules for development, for terminals and windows, and for other systems.
_LEFT_OUT = {
    "__pycache__", "site-packages", "lib", "idlelib", "turtledemo", "turtle.py", "tkinter", "ensurepip", "venv",
    "curses", "pydoc_data", "macholib", "ctypes", "ssl.py", "antigravity.py", "this.py", "__hello__.py",
    "__phello__", "config-3.14-wasm32-wasi",
}  # fmt: skip
_SHIMS = Path(__file__).parent / "shims"
Patch = Callable[[ModuleType], object]


def load() -> None:
    """Import MODULES into the image. Raises ImportError, because a wrong list must not produce an image."""
    for name in MODULES:
        import_module(name)


def prefer_shims() -> None:
    """Put the shims first on ``sys.path``, before anything imports the modules that they replace."""
    sys.path.insert(0, str(_SHIMS))


def ship(folder: Path) -> None:
    """Copy the standard library's files into ``folder``, with their compiled forms, which are loaded unchecked. Create
    in it the folder of frozen modules' files, where the host mounts the library too."""
    (folder / Path(os.__file__).parent.relative_to(LIBRARY)).mkdir(parents=True, exist_ok=True)
    for source in sorted(LIBRARY.rglob("*")):
        path = source.relative_to(LIBRARY)
        if _LEFT_OUT.isdisjoint(path.parts) and source.is_file():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            if source.suffix == ".py":
                _compile(source, target)


def _compile(source: Path, target: Path) -> None:
    cache = importlib.util.cache_from_source(str(target))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), cache, dfile=str(source), doraise=True, quiet=1, invalidation_mode=unchecked)


class _Finder:
    """Finder that is first on the path, so that patches apply to modules that are imported again."""

    def __init__(self) -> None:
        self.patches: dict[str, Patch] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.patches:
            return None
        for finder in sys.meta_path[:]:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Patched(spec.loader, self.patches[name])  # type: ignore[assignment]
                return spec
        return None


class _Patched:
    """A loader that applies a patch after loading."""

    def __init__(self, loader: Any, patch: Patch) -> None:
        self._loader = loader
        self._patch = patch

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_FINDER = _Finder()


def adapt(name: str, patch: Patch) -> None:
    """Patch a module now, and whenever it is imported again."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _FINDER.patches[name] = patch
    if name in sys.modules:
        patch(sys.modules[name])


def look_in(packages: Iterable[str]) -> None:
    """Import only from the standard library and these folders from here on, because the folders that built the image
    are gone."""
    sys.path[:] = [str(_SHIMS), str(LIBRARY), *packages]
    importlib.invalidate_caches()
