"""Maintenance work of a process, done between the messages of its instance."""

from __future__ import annotations

from collections.abc import Callable
from math import inf


class Chores:
    """``due`` is when work is due, by ``time.monotonic``. ``on_due`` is called, on any thread, when work becomes
    due."""

    def __init__(self) -> None:
        self.due = inf
        self.on_due: Callable[[], object] = bool

    def do(self) -> None:
        """Do the work that is due and set ``due``. On the main thread."""
