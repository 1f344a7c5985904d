"""Waiting, on the main thread, for the end that somebody asks for: another thread, or a handler of signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

SAME = 0.3
"""Seconds within which a signal that comes again is the same one: who ends a process and then its group sends two."""


class Ending:
    """A pipe that the system's own handler of signals writes to. A lock would not do: a signal can come while the main
    thread holds it, and one that comes a moment before it waits would not wake it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_asked = False
        self._clock = clock
        self._since = 0.0
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def ask(self) -> None:
        """On any thread, also in a handler of signals."""
        if not self.is_asked:
            self._since = self._clock()
            self.is_asked = True
        os.write(self._wake, b"\0")

    def is_asked_again(self) -> bool:
        """Whether who asks now asks for the second time."""
        return self.is_asked and self._clock() - self._since >= SAME

    def wait(self) -> None:
        """On the main thread. Returns when the end was asked for, before or meanwhile."""
        before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            while not self.is_asked:
                os.read(self._woken, 64)
        finally:
            signal.set_wakeup_fd(before)
