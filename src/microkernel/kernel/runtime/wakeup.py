"""Wakes a thread that waits on descriptors: an eventfd, set by one C call."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from functools import partial


class _Ring(partial[object]):
    """Closes the descriptor when the last reference is gone.

    An epoll object does that, for any descriptor it is given, without running Python code. This matters because a
    thread that is killed at any bytecode may have the last reference.
    """

    keeper: select.epoll


class Wakeup:
    """Wakes a thread that waits on descriptors.

    ``set`` may be called on any thread, including one that can be killed at any bytecode, and one that is late: a
    thread in ``set`` holds the descriptor, so after closing it never writes to another one with the same number.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        ring = _Ring(os.eventfd_write, self._descriptor, 1)
        ring.keeper = select.epoll.fromfd(self._descriptor)
        self.set: Callable[[], object] = ring
        self._always_armed = False
        # One item while it is armed. The thread that takes it sets the eventfd.
        self._wanted = deque[bool](maxlen=1)

    def arm(self) -> None:
        """Announce that the thread is about to wait. It looks for work once more after this; a thread that adds work
        later notifies it."""
        self._wanted.append(True)

    def keep_armed(self) -> None:
        """Be armed from now on, because an event loop waits for it, which cannot be seen from here."""
        self._always_armed = True

    def disarm(self) -> None:
        """Announce that the thread no longer waits, and looks for work by itself."""
        self._wanted.clear()

    def notify(self) -> None:
        """Wake the thread once, if it is armed. For any thread.

        It may have to wait for the interpreter's lock, and each further wake-up until then would cost a system call. A
        kill in here may cause a second wake-up, which is harmless; losing one would not be.
        """
        if self._always_armed:
            self.set()
        elif self._wanted:
            try:
                self._wanted.pop()
                self.set()
            except IndexError:  # another thread was quicker
                return
            except BaseException:
                self.set()
                raise

    def fileno(self) -> int:
        return self._descriptor

    def wait(self, timeout: float | None) -> None:
        """Wait until it is set, or for ``timeout`` seconds; now and then in vain. Resets it. One thread at a time.

        Without a timeout it takes one system call, and half the time from thread to thread.
        """
        if timeout is None or self._poll.poll(timeout * 1000):
            try:
                os.eventfd_read(self._descriptor)
            except InterruptedError:  # by a signal, which another thread handles
                return

    def close(self) -> None:
        """Close the descriptor. ``set`` does nothing from now on."""
        self.set = _closed
        del self._descriptor


def _closed() -> None:
    """Does nothing, because the descriptor may be another's by now."""
