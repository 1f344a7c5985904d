"""The caller's end of a direct channel to another plugin."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

from microkernel.errors import ProtocolError
from microkernel.wire.direct import ADOPT_AFTER, pack_direct, read_reply
from microkernel.wire.failures import OF_REPLIES, as_reported
from microkernel.wire.messages import Call, DirectCall, Response
from microkernel.wire.nonblocking_io import SPIN_SECONDS, AdaptiveSpin, receive_into_room, send

# How many replies to earlier calls a waiter skips. A callee that runs our code sends one at most.
_OTHERS = 3
# Shortest time in seconds to the deadline of a call: two of the system's longest clock ticks.
_SOONEST = 0.02
_TIMEVAL = struct.Struct("ll")


class DirectRoute:
    """Carries one call at a time to one callee, on any thread. ``lock`` is held by the thread whose call that is.

    ``seen``: the channel's mark, see ``WorkerChannel.request``.
    """

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number = number
        self.lock = threading.Lock()
        self.seen: object = None
        self.closed = False
        self._end = end
        self._fileno = end.fileno()
        self._spin = AdaptiveSpin(SPIN_SECONDS, yields=False)
        # The system rounds this up to its clock tick.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, int(ADOPT_AFTER * 1e6)))

    def call(self, call: Call) -> bool:
        """Send a call. Return False if it must go through the kernel: the channel is closed, the call does not fit, or
        its deadline is nearer than the end of the wait for its reply."""
        now = time.monotonic()
        if call.shares or call.deadline - now < _SOONEST:
            return False
        data = pack_direct(
            DirectCall(call.id, call.target, call.args, call.kwargs, call.deadline, call.slot, call.chain, now)
        )
        if not data:
            return False
        if send(self._fileno, data):
            return True
        self.closed = True
        return False

    def receive(self, id: int) -> Response | None:
        """Return the reply to this call; None if none has arrived in a moment, or the channel is closed, which sets
        ``closed``."""
        for _ in range(_OTHERS):
            try:
                data = self._spin.try_receive(self._fileno) or receive_into_room(self._end)
                reply = read_reply(data)
            except BlockingIOError:
                return None  # none in a moment
            except (OSError, ProtocolError):
                break  # the channel is closed, or the callee runs other code than ours
            if reply.id == id:
                if reply.failure is not None:
                    reply.failure = as_reported(reply.failure, OF_REPLIES)
                reply.shares = ()
                return reply
        self.closed = True
        return None

    def receive_late(self, id: int, deadline: float) -> Response | None:
        """Return the reply to this call, which the callee has sent after all. Return None at the deadline (monotonic),
        or if the channel is closed."""
        reply = None
        while not self.closed and reply is None and time.monotonic() < deadline:
            reply = self.receive(id)
        return reply

    def confirm(self, mark: object) -> None:
        """The callee has handled everything that was sent before this mark."""
        self.seen = mark

    def give_up(self) -> None:
        """Have the channel closed, because a call on it has not ended, so that its callee sees that no one waits."""
        self.closed = True

    def close(self) -> None:
        """Close the channel. The callee sees that the caller no longer waits, even if the end has copies."""
        self.closed = True
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()
