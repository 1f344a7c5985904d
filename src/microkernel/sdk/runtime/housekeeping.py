"""Maintenance work of a process, done between the messages of its instance."""

from __future__ import annotations

from collections.abc import Callable
from math import inf


class Chores:
    """``due`` is when work is due, by ``time.monotonic``."""

    def __init__(self) -> None:
        self.due = inf
        self._on_due: Callable[[], object] = bool

    def call_when_due(self, on_due: Callable[[], object]) -> None:
        """Call ``on_due``, on any thread, whenever work becomes due."""
        self._on_due = on_due

    def do(self) -> None:
        """Do the work that is due and set ``due``. On the main thread."""
