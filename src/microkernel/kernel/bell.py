"""What wakes a thread that waits on descriptors: an eventfd, rung by one C call."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial


class _Descriptor(int):
    """Closed when nobody holds it any more."""

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self)


class Bell:
    """``ring`` is for any thread, also for one that can be killed at any bytecode, and for one that comes late: who is
    ringing holds the descriptor, so that a bell that is closed meanwhile never writes to one that has its number."""

    def __init__(self) -> None:
        self._descriptor = _Descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self.ring: Callable[[], object] = partial(os.eventfd_write, self._descriptor, 1)

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> None:
        """However often it was rung."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Ringing it does nothing from now on."""
        self.ring = int
        del self._descriptor
