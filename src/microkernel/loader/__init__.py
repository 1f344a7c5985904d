"""Finds plugins and reads their manifests and sources, without running any of their code. Implements ports.Loader."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from microkernel.errors import KernelError, PluginLoadError
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import PluginCandidate, Snapshot
from microkernel.loader.config import read_config
from microkernel.loader.discovery import ENTRY_POINT, check_places, discover, find, may_have_plugins
from microkernel.loader.files import unforeseen
from microkernel.loader.lock import LockFile
from microkernel.loader.manifests import read_manifest
from microkernel.loader.parsers import InProcess, Parser, parsing_with
from microkernel.loader.snapshot import snapshot

__all__ = [
    "FileLoader",
    "LockFile",
    "check_places",
    "discover",
    "find",
    "may_have_plugins",
    "read_config",
    "read_manifest",
    "snapshot",
]


class FileLoader:
    """A ``ports.Loader`` for folders, files and entry points.

    It remembers only the folders in which plugins are, to distinguish another plugin's file from an installed package
    of the same name.
    """

    def __init__(self, parser: Parser | None = None) -> None:
        """Create the loader. With ``parser`` None, files are parsed in this process."""
        self._homes: set[str] = set()
        self._parser = parser or InProcess()

    def discover(self, places: Sequence[str]) -> list[PluginCandidate]:
        with parsing_with(self._parser):
            found = discover(places)
        self._remember(found)
        return found

    def find(self, path: str) -> PluginCandidate:
        with parsing_with(self._parser):
            found = find(path)
        self._remember([found])
        return found

    def snapshot(self, found: PluginCandidate, peers: Sequence[str], level: Level = "process") -> Snapshot:
        try:
            with parsing_with(self._parser):
                return snapshot(found, peers, frozenset(self._homes), level)
        except KernelError:
            raise
        except Exception as mistake:  # a text can make a parser raise anything; only this plugin fails
            raise unforeseen(found.path, mistake, PluginLoadError) from None

    def _remember(self, found: Iterable[PluginCandidate]) -> None:
        paths = (each.path for each in found if not each.path.startswith(ENTRY_POINT))
        self._homes.update([os.path.dirname(path) for path in paths])
