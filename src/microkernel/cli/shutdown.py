"""Waiting on the main thread for a request to end, from another thread or from a signal handler."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

# Seconds within which a repeated signal counts as the same request: ending a process and then its group sends two.
SAME = 0.3


class Ending:
    """A request to end, implemented by a pipe that the C-level signal handler writes to.

    A lock would not work: a signal can arrive while the main thread holds it, and a signal just before the wait would
    not wake it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_asked = False
        self._clock = clock
        self._since = 0.0
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def ask(self) -> None:
        """Request the end. May be called from any thread, also in a signal handler."""
        if not self.is_asked:
            self._since = self._clock()
            self.is_asked = True
        os.write(self._wake, b"\0")

    def is_asked_again(self) -> bool:
        """Return whether this is the second request."""
        return self.is_asked and self._clock() - self._since >= SAME

    def wait(self) -> None:
        """Wait on the main thread until the end is requested, before or during the wait."""
        before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            while not self.is_asked:
                os.read(self._woken, 64)
        finally:
            signal.set_wakeup_fd(before)
