"""Sending and receiving that keep the interpreter's lock, and looking for what comes soon.

Python lets go of it around each system call. Where another thread computes, getting it back takes a switch interval,
5 ms, each time: a call would take as long as the computing. These never wait, so that nobody waits for who keeps it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
import time

from microkernel.wire import frames

SPIN_SECONDS = 50e-6
"""Seconds to look for what comes next before going to sleep: longer than who calls again at once, or answers at once,
takes for it."""
_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_libc = ctypes.PyDLL(None, use_errno=True)
_send, _receive, _yield = _libc.send, _libc.recv, _libc.sched_yield
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = _receive.restype = ctypes.c_ssize_t


def send(descriptor: int, data: bytes) -> bool:
    """Whether it was sent. If not, the socket's own ``send`` tells why."""
    return bool(_send(descriptor, data, len(data), _NOW) == len(data))


class _Room(threading.local):
    """For one datagram, and a byte more, by which one that is too long is known; each thread's own."""

    def __init__(self) -> None:
        room = ctypes.create_string_buffer(frames.DATAGRAM + 1)
        self.size = len(room)
        self.address = ctypes.addressof(room)
        self.view = memoryview(room)


_room = _Room()


def receive(descriptor: int) -> bytes | None:
    """A datagram, empty at the socket's end; None if there is none yet. Raises OSError."""
    length = _receive(descriptor, _room.address, _room.size, _NOW)
    if length >= 0:
        return _room.view[:length].tobytes()
    code = ctypes.get_errno()
    if code == errno.EAGAIN:
        return None
    raise OSError(code, os.strerror(code))


class AdaptiveSpin:
    """To look for what comes within a ``window`` before going to sleep for it. ``yields``: others may have the
    processor meanwhile, as the sender may be waiting for this very one; else on the sender's own core it is in vain.

    Looks that take too long, because the answer does or because others have the processor, are followed by longer and
    longer pauses; one in time ends that. What was there already says nothing of either: it would have been without a
    look. A race of two threads costs a look.
    """

    LONGEST = 64
    """Answers that are waited for without a look."""

    def __init__(self, window: float, *, yields: bool) -> None:
        self.window = window
        self._between = _yield if yields else time.monotonic
        self._pause = 0
        self._left = 0
        self._caller = 0

    def should_spin(self) -> bool:
        """Whether to look: not in a pause, nor where the last who asked was another thread, who may want the lock while
        this one looks."""
        last, self._caller = self._caller, threading.get_ident()
        if last not in (0, self._caller):
            return False
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = self._pause
        return True

    def record(self, seconds: float) -> None:
        """So long a look took."""
        self._pause = min(2 * self._pause + 1, self.LONGEST) if seconds > self.window else 0
        self._left = self._pause

    def try_receive(self, descriptor: int) -> bytes:
        """A datagram that comes within a window. Empty if there was none, at the socket's end, and without a look."""
        if not self.should_spin():
            return b""
        address, size, between = _room.address, _room.size, self._between
        length = _receive(descriptor, address, size, _NOW)
        if length < 0:
            began = time.monotonic()
            while length < 0 and time.monotonic() - began < self.window:
                between()
                length = _receive(descriptor, address, size, _NOW)
            self.record(time.monotonic() - began)
        return _room.view[:length].tobytes() if length > 0 else b""
