"""Reply lanes: a caller in the kernel's process reads its own answer, with no thread between it and the callee."""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from contextlib import suppress

from microkernel.wire import frames
from microkernel.wire.messages import Reply
from microkernel.wire.session import ReplyReader

LANES = 4
"""How many callers of one plugin have a lane at the same time; more get their answers by the way up."""
_SLACK = 0.01
"""Seconds by which the receive timeout may be longer than what is left; setting it anew is a system call."""
_TIMEVAL = struct.Struct("ll")


class Lane:
    """One socket, used by one waiting thread at a time. ``owner`` is the place whose instance replies on it."""

    __slots__ = ("_free", "_reader", "_reply", "_socket", "_timeout", "index", "owner")

    def __init__(self, index: int, owner: object, end: socket.socket, free: deque[Lane]) -> None:
        self.index = index
        self.owner = owner
        self._socket = end
        self._free = free
        self._reader = ReplyReader()
        self._timeout = 0.0
        self._reply: Reply | None = None
        end.setblocking(True)

    def answer(self, reply: Reply) -> None:
        """The answer came another way: its waiter gets it, and the lane is done with."""
        self._reply = reply
        self._interrupt()

    def wait(self, id: int, deadline: float) -> Reply | None:
        """The Reply to this call, and the lane is free again; None at the deadline, and for a lane that was closed.

        Late replies to calls that were given up are passed over. Raises ProtocolError for what is no reply.
        """
        while self._reply is None and (left := deadline - time.monotonic()) > 0:
            try:
                self._limit(left)
                data = self._socket.recv(frames.DATAGRAM)
            except BlockingIOError:
                continue
            except OSError:
                return self._reply
            if not data:
                return self._reply
            for reply in self._reader.receive(data):
                if reply.id == id:
                    self.release()
                    return reply
        if self._reply is None:
            self.release()
        return self._reply

    def release(self) -> None:
        """It is free for the next caller."""
        self._free.append(self)

    def close(self) -> None:
        """Whoever waits is woken, and has the answer it was given, or none."""
        self._interrupt()
        self._socket.close()

    def _interrupt(self) -> None:
        with suppress(OSError):  # it is closed: the waiter is gone or going
            self._socket.shutdown(socket.SHUT_RD)

    def _limit(self, left: float) -> None:
        if not left <= self._timeout <= left + _SLACK:
            self._timeout = left
            seconds = int(left)
            timeval = _TIMEVAL.pack(seconds, max(1, int((left - seconds) * 1e6)))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
