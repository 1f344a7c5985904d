"""A thread that computes for as long as it is told to, as one of a plugin does that has something to work out."""

from __future__ import annotations

import threading


class Computing:
    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._ended = False

    def run(self) -> None:
        """On a thread of its own, until ``end``."""
        number = 1
        while self._wanted.wait() and not self._ended:
            for _ in range(1_000):
                number = number * number % 1_000_003 + 1

    def begin(self) -> None:
        self._wanted.set()

    def pause(self) -> None:
        self._wanted.clear()

    def end(self) -> None:
        self._ended = True
        self._wanted.set()
