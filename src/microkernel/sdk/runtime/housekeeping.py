"""What a process has to do now and then, between all that its instance does."""

from __future__ import annotations

from collections.abc import Callable
from math import inf


class Chores:
    """``due``: when, by ``time.monotonic``. ``on_due`` is called, on any thread, when nothing was due and now is."""

    def __init__(self) -> None:
        self.due = inf
        self.on_due: Callable[[], object] = bool

    def do(self) -> None:
        """On the main thread. Sets ``due``."""
