"""Who is being reloaded, and who was saved again meanwhile: one at a time for each plugin, and no change is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Turns:
    """Whoever began a plugin asks ``again`` when it is done with it, and goes on as long as that says so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._again: set[str] = set()

    def begin(self, names: Iterable[str]) -> list[str]:
        """Those to do now; who is under way is done once more afterwards, by who does it."""
        with self._lock:
            requested = list(names)
            now = [name for name in requested if name not in self._under_way]
            self._again.update(name for name in requested if name in self._under_way)
            self._under_way.update(now)
            return now

    def again(self, name: str) -> bool:
        """Whether it was saved since; if not, its turn is over."""
        with self._lock:
            if name in self._again:
                self._again.discard(name)
                return True
            self._under_way.discard(name)
            return False
