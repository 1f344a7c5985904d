"""Coordinates reloads: one at a time for each plugin, and no change is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class ReloadQueue:
    """Plugins being reloaded. The thread that starts one calls ``again`` when done, and repeats as long as it returns
    True."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._again: set[str] = set()

    def begin(self, names: Iterable[str]) -> list[str]:
        """Return the plugins to reload now. A plugin in progress is reloaded once more afterwards, by the thread that
        has it."""
        with self._lock:
            requested = list(names)
            now = [name for name in requested if name not in self._under_way]
            self._again.update(name for name in requested if name in self._under_way)
            self._under_way.update(now)
            return now

    def again(self, name: str) -> bool:
        """Return whether the plugin was saved again; if not, its reload is complete."""
        with self._lock:
            if name in self._again:
                self._again.discard(name)
                return True
            self._under_way.discard(name)
            return False
