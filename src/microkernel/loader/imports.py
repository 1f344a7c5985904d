"""Finds imports of one plugin by another. They are refused, with the line to write instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

from microkernel.errors import PluginLoadError


def check_imports(found: Mapping[str, tuple[int, str]], path: str, forbidden: Collection[str]) -> None:
    """Raise PluginLoadError MK0118 for the first import, by line, of a module among ``forbidden``."""
    wrong = sorted((line, module, instead) for module, (line, instead) in found.items() if module in forbidden)
    for line, module, instead in wrong:
        raise PluginLoadError("MK0118", path=path, line=line, other=module, instead=instead)


def is_installed(name: str, homes: Collection[str]) -> bool:
    """Return whether a top-level module can be imported from somewhere other than a plugin's folder on ``sys.path``.

    ``homes`` are the folders that contain plugins.
    """
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and os.path.dirname(_place(spec)) not in homes


def _place(spec: ModuleSpec) -> str:
    """Return the file or folder of a top-level module."""
    folders = spec.submodule_search_locations
    return os.path.abspath(next(iter(folders), "") if folders else spec.origin or "")
