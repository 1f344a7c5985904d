"""What happens, as it happens: events of the kernel as lines."""

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
_SHY = 12
"""Cells for the names of plugins before they are known."""


class Feed:
    """One for each place where lines are shown. It remembers what it has told of whom."""

    def __init__(self, translator: Translator, version: str) -> None:
        self._translator = translator
        self._version = version
        self._told: Counter[str] = Counter()
        self._notices = threading.Condition()
        self._seen: set[str] = set()
        self._from_birth = False
        """It was there when the kernel began, so it knows who was never active."""
        self.cells = 0
        """How wide the longest plugin's name is."""

    def knows(self, names: Sequence[str]) -> None:
        """Plugins that run already, or will."""
        self.cells = min(_SHY * 2, max((len(name) for name in names), default=0))

    def found(self, kernel: str, names: Sequence[str]) -> list[RenderableType]:
        """The first line of a kernel's life."""
        self.knows(names)
        self._from_birth = True
        key = "run.found" if names else "run.none"
        return [Text(self._translator.word(key, version=self._version, name=kernel, count=len(names)))]

    def message(self, id: str, level: str, plugin: str, fields: Mapping[str, Any]) -> list[RenderableType]:
        """A message of the kernel."""
        fresh = self._from_birth and plugin not in self._seen
        if fresh and id == "MK0219":
            return []  # it was down before
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
        """``✓ parser     1.2      process  pid 4121       2.1 ms``."""
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
        """``! mailer     2.0      held     MK0412  asks for more than was approved: + net ...``."""
        return view.line(
            level,
            view.padded(plain(plugin), self.cells),
            view.padded(view.version_of(str(fields["version"])), 7),
            view.padded(self._translator.state("held"), 7),
            id,
            plain(self._translator.tell(id, fields)),
        )

    def log(self, record: Mapping[str, Any]) -> list[RenderableType]:
        """A line of a plugin's."""
        return [view.log_line(record, self.cells)]

    def event(self, topic: str, source: str, data: Mapping[str, Any]) -> list[RenderableType]:
        """An event that somebody wanted to watch."""
        return [Text(f"→ {plain(topic)}  {plain(source)}  {view.value_text(data)}", "magenta")]

    def reported(self, plugin: str) -> int:
        """How many messages there were about a plugin."""
        with self._notices:
            return self._told[plugin]

    def wait(self, plugin: str, before: int, seconds: float) -> bool:
        """Whether there is news since; waits for it so long."""
        with self._notices:
            return self._notices.wait_for(lambda: self._told[plugin] > before, seconds)
