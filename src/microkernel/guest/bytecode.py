"""Compiled modules of installed packages, kept in the plugin's data folder.

The packages are another interpreter's: what that compiled does not fit here, and beside their sources nothing can be
written. Without this, each start of a plugin that needs sympy would compile all of it, for ten seconds. A plugin can
put there what it likes: it is run by that plugin alone, as what is beside it.
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
        with suppress(OSError):  # its disk may be full: then it is compiled again, as before
            super().set_data(self._kept(path), data, _mode=_mode)

    def _kept(self, path: str) -> str:
        is_compiled = path.endswith(tuple(BYTECODE_SUFFIXES))
        return self.folder + os.path.realpath(path).replace("/__pycache__/", "/") if is_compiled else path


def keep(packages: Iterable[str], folder: str) -> None:
    """What is imported from these folders is compiled into ``folder``, once."""
    roots = tuple(packages)
    loader = type("_Loader", (_Loader,), {"folder": folder})

    def finder(path: str) -> FileFinder:
        if not any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots):
            raise ImportError("not a folder of packages")
        return FileFinder(path, (loader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
