"""Turns events of the kernel into lines as they happen."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from . import view
from .translator import Translator, plain

_HOLDING = frozenset({"MK0412", "MK0413"})
# Width in cells for plugin names before any is known.
_SHY = 12


class Feed:
    """The lines for one output. It remembers which plugins it has reported."""

    def __init__(self, translator: Translator, version: str) -> None:
        self._translator = translator
        self._version = version
        self._told: Counter[str] = Counter()
        self._notices = threading.Condition()
        self._seen: set[str] = set()
        # True if this feed exists since the start of the kernel, so that it knows which plugins were never active.
        self._from_birth = False
        # Width in cells of the longest plugin name.
        self.cells = 0

    def knows(self, names: Sequence[str]) -> None:
        """Add names of plugins that run or will run."""
        self.cells = min(_SHY * 2, max((len(name) for name in names), default=0))

    def found(self, kernel: str, names: Sequence[str]) -> list[RenderableType]:
        """Return the first line of a kernel's output."""
        self.knows(names)
        self._from_birth = True
        key = "run.found" if names else "run.none"
        return [Text(self._translator.word(key, version=self._version, name=kernel, count=len(names)))]

    def message(self, id: str, level: str, plugin: str, fields: Mapping[str, Any]) -> list[RenderableType]:
        """Return the lines for a message of the kernel."""
        fresh = self._from_birth and plugin not in self._seen
        if fresh and id == "MK0219":
            return []  # it was not active before
        with self._notices:
            self._told[plugin] += 1
            self._notices.notify_all()
        if id == "MK0218":
            self._seen.add(plugin)
            if fields.get("generation") == 1:
                return [self._started(plugin, fields)]
        name = view.padded(plain(plugin), self.cells) if plugin else ""
        if id in _HOLDING and fields.get("version"):
            return [self._held(id, level, plugin, fields)]
        shown_id = id if level in ("warn", "error") else ""
        unborn = view.padded(view.NOTHING, 7) if fresh and plugin and level == "error" else ""
        text = view.line(level, name, unborn, shown_id, plain(self._translator.tell(id, fields)))
        return [text, *view.their_lines(str(fields.get("traceback", "")))]

    def _started(self, plugin: str, fields: Mapping[str, Any]) -> Text:
        """Return the line of a start: ``✓ parser     1.2      process  pid 4121       2.1 ms``."""
        pid = fields.get("pid")
        return view.line(
            "success",
            view.padded(plain(plugin), self.cells),
            view.padded(view.version_of(str(fields.get("version", ""))), 7),
            view.padded(str(fields.get("level", "")), 7),
            view.padded(f"pid {pid}" if pid else "", 11),
            f"{fields.get('ms', 0):6.1f} ms",
        )

    def _held(self, id: str, level: str, plugin: str, fields: Mapping[str, Any]) -> Text:
        """Return the line of a held plugin: ``! mailer     2.0      held     MK0412  asks for more than was approved:
        ...``."""
        return view.line(
            level,
            view.padded(plain(plugin), self.cells),
            view.padded(view.version_of(str(fields["version"])), 7),
            view.padded(self._translator.state("held"), 7),
            id,
            plain(self._translator.tell(id, fields)),
        )

    def log(self, record: Mapping[str, Any]) -> list[RenderableType]:
        """Return the lines for a plugin's log record."""
        return [view.log_line(record, self.cells)]

    def event(self, topic: str, source: str, data: Mapping[str, Any]) -> list[RenderableType]:
        """Return the lines for a watched event."""
        return [Text(f"→ {plain(topic)}  {plain(source)}  {view.value_text(data)}", "magenta")]

    def reported(self, plugin: str) -> int:
        """Return how many messages about a plugin have been reported."""
        with self._notices:
            return self._told[plugin]

    def wait(self, plugin: str, before: int, seconds: float) -> bool:
        """Wait for a message about a plugin beyond the first ``before``. Returns whether one arrived."""
        with self._notices:
            return self._notices.wait_for(lambda: self._told[plugin] > before, seconds)
