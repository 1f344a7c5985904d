"""What wakes a thread that waits on descriptors: an eventfd, rung by one C call."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from functools import partial


class _Ring(partial[object]):
    """Holds what closes the descriptor when nobody holds it any more. An epoll object does that, for any descriptor
    it is given, without a line of Python: the last to let go may be a thread that is killed at any bytecode."""

    keeper: select.epoll


class Wakeup:
    """``ring`` is for any thread, also for one that can be killed at any bytecode, and for one that comes late: who is
    ringing holds the descriptor, so that a bell that is closed meanwhile never writes to one that has its number."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        ring = _Ring(os.eventfd_write, self._descriptor, 1)
        ring.keeper = select.epoll.fromfd(self._descriptor)
        self.ring: Callable[[], object] = ring
        self.always = False
        """It is expected at any time: an event loop waits for it, where we cannot see that."""
        self._wanted = deque[bool](maxlen=1)
        """A ring: there while it is expected, or taken by whoever rings."""

    def expect(self) -> None:
        """Who waits is about to. What is there before it looks once more it sees; who brings something after this calls
        it."""
        self._wanted.append(True)

    def dismiss(self) -> None:
        """It waits no more, and looks by itself."""
        self._wanted.clear()

    def call(self) -> None:
        """Ring, if it is expected; once, as who is rung for may wait for the interpreter's lock, and each ring would
        cost a system call until it has that. For any thread: a second ring, which a kill in here may cause, is
        harmless; none would not be."""
        if self.always:
            self.ring()
        elif self._wanted:
            try:
                self._wanted.pop()
                self.ring()
            except IndexError:  # another thread was quicker
                return
            except BaseException:
                self.ring()
                raise

    def fileno(self) -> int:
        return self._descriptor

    def wait(self, timeout: float | None) -> None:
        """Until it is rung, or the time is over; now and then for nothing. It is silent then, however often it was
        rung. One thread's at a time. Without a timeout one system call does, and half the way from thread to thread."""
        if timeout is None or self._poll.poll(timeout * 1000):
            try:
                os.eventfd_read(self._descriptor)
            except InterruptedError:  # by a signal, which is another thread's business
                return

    def close(self) -> None:
        """Ringing it does nothing from now on."""
        self.ring = int
        del self._descriptor
