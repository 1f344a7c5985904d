"""CPU load on a thread that can be started and paused, like a plugin's thread that computes."""

from __future__ import annotations

import threading


class Computing:
    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._ended = False

    def run(self) -> None:
        """Compute until ``end`` is called; run this on a dedicated thread."""
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
