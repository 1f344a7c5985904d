"""What wakes a thread that waits on descriptors: an eventfd, rung by one C call."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from functools import partial

_ONCE = (1).to_bytes(8, "little")


class Bell:
    """``ring`` is for any thread, also for one that can be killed at any bytecode, and for one that comes late: on a
    closed bell it raises ValueError, and never writes to a descriptor that has its number by now."""

    __slots__ = ("_file", "ring")

    def __init__(self) -> None:
        self._file = io.FileIO(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+b")
        self.ring = partial(self._file.write, _ONCE)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def fileno(self) -> int:
        return self._file.fileno()

    def drain(self) -> None:
        """However often it was rung."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._file.fileno())

    def close(self) -> None:
        self._file.close()
