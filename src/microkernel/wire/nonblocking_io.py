"""Send and receive without releasing the interpreter's lock, and spin briefly for the next message.

Python releases the lock around each system call. If another thread computes, getting it back takes a switch interval of
5 ms each time, and a call would take as long as the computation. These functions never block, so no thread waits
because one of them keeps the lock.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
import time
from collections.abc import Callable

from microkernel.wire import frames, native

# Seconds that one wait may take. The system rejects timeouts of more than some weeks, so longer waits are split.
MAX_WAIT = 3600.0
# Seconds to poll for the next message before sleeping: longer than a peer takes that calls or answers immediately.
SPIN_SECONDS = 50e-6
_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_libc = ctypes.PyDLL(None, use_errno=True)
_send, _receive, _yield = _libc.send, _libc.recv, _libc.sched_yield
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = _receive.restype = ctypes.c_ssize_t


def _send_by_ctypes(descriptor: int, data: bytes) -> bool:
    """Return whether the datagram was sent. If not, the socket's own ``send`` raises the reason."""
    return bool(_send(descriptor, data, len(data), _NOW) == len(data))


class _Room(threading.local):
    """A receive buffer for each thread: one datagram, and one byte more to detect a datagram that is too long."""

    def __init__(self) -> None:
        room = ctypes.create_string_buffer(frames.DATAGRAM + 1)
        self.size = len(room)
        self.address = ctypes.addressof(room)
        self.view = memoryview(room)


_room = _Room()


def _receive_by_ctypes(descriptor: int) -> bytes | None:
    """Return a datagram; empty at the end of the socket, None if none has arrived. Raises OSError."""
    length = _receive(descriptor, _room.address, _room.size, _NOW)
    if length >= 0:
        return _room.view[:length].tobytes()
    code = ctypes.get_errno()
    if code == errno.EAGAIN:
        return None
    raise OSError(code, os.strerror(code))


def receive_into_room(end: socket.socket) -> bytes:
    """Return a datagram of a blocking socket. Takes less time than ``recv``, which makes a large object first."""
    return _room.view[: end.recv_into(_room.view)].tobytes()


send: Callable[[int, bytes], bool] = _send_by_ctypes if native.core is None else native.core.send
receive: Callable[[int], bytes | None] = _receive_by_ctypes if native.core is None else native.core.receive
# Returns a datagram that arrives within a window of seconds, or b"", and the seconds; they are negative if it was there
# at once. The last argument is whether to yield the processor between two polls.
_poll: Callable[[int, float, bool], tuple[bytes, float]] | None = native.core and native.core.poll


class AdaptiveSpin:
    """Decides whether to poll for the next message, for at most ``window`` seconds, before sleeping.

    ``yields`` gives the processor to other threads between two polls, because the sender may be waiting for it; without
    it, polling is useless if the sender runs on the same core.

    Polls that are in vain, because the answer takes long or because other threads use the processor, are followed by
    longer and longer pauses; one in time ends the pauses. A message that had arrived before is not counted: it would
    have been received without polling. Not locked: a race of two threads costs one poll.
    """

    # Maximum number of receives without a poll.
    MAX_PAUSE = 64

    def __init__(self, window: float, *, yields: bool) -> None:
        self.window = window
        self._yields = yields
        self._between = _yield if yields else time.monotonic
        self._pause = 0
        self._left = 0
        self._caller = 0

    def should_spin(self) -> bool:
        """Return whether to poll now: not during a pause, nor if the last caller was another thread, which may need the
        lock meanwhile."""
        last, self._caller = self._caller, threading.get_ident()
        if last not in (0, self._caller):
            return False
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = self._pause
        return True

    def record(self, seconds: float) -> None:
        """Adapt to the duration of a poll."""
        self._pause = min(2 * self._pause + 1, self.MAX_PAUSE) if seconds > self.window else 0
        self._left = self._pause

    def try_receive(self, descriptor: int) -> bytes:
        """Return a datagram that arrives within the window; empty if none does, at the end of the socket, or without a
        poll."""
        if not self.should_spin():
            return b""
        if _poll is not None:
            data, seconds = _poll(descriptor, self.window, self._yields)
            if seconds >= 0.0:
                self.record(seconds)
            return data
        address, size, between = _room.address, _room.size, self._between
        length = _receive(descriptor, address, size, _NOW)
        if length < 0:
            began = time.monotonic()
            while length < 0 and time.monotonic() - began < self.window:
                between()
                length = _receive(descriptor, address, size, _NOW)
            self.record(time.monotonic() - began)
        return _room.view[:length].tobytes() if length > 0 else b""
