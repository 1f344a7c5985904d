"""Store the compiled modules of installed packages in the plugin's data folder.

The packages belong to another interpreter, whose bytecode does not fit here, and their folders are read-only. Without
this, each start of a plugin that needs sympy would compile all of it, which takes ten seconds. A plugin can write
anything into these files, but only that plugin runs them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import BYTECODE_SUFFIXES, SOURCE_SUFFIXES, FileFinder, SourceFileLoader, SourcelessFileLoader
from typing import Any


class _Loader(SourceFileLoader):
    folder: str

    def get_data(self, path: str) -> bytes:
        return super().get_data(self._kept(path))

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        with suppress(OSError):  # if its disk is full, it is compiled again the next time
            super().set_data(self._kept(path), data, _mode=_mode)

    def _kept(self, path: str) -> str:
        is_compiled = path.endswith(tuple(BYTECODE_SUFFIXES))
        return self.folder + os.path.realpath(path).replace("/__pycache__/", "/") if is_compiled else path


def cache_bytecode(packages: Iterable[str], folder: str) -> None:
    """Compile modules that are imported from these folders into ``folder``, once."""
    roots = tuple(packages)
    loader = type("_Loader", (_Loader,), {"folder": folder})

    def finder(path: str) -> FileFinder:
        if not any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots):
            raise ImportError("not a folder of packages")
        return FileFinder(path, (loader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
