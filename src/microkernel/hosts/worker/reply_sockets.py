"""Response lanes: a caller in the kernel's process reads its own reply, with no thread between it and the callee."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from microkernel.errors import KernelError, ProtocolError
from microkernel.kernel.ports import Reactor
from microkernel.wire import frames
from microkernel.wire.codec import Raw
from microkernel.wire.failures import OF_REPLIES, as_reported
from microkernel.wire.messages import Response
from microkernel.wire.nonblocking_io import MAX_WAIT, AdaptiveSpin
from microkernel.wire.session import ReplyReader

# Seconds to poll for a reply before sleeping. Waking a sleeper on another core takes a quarter of that; a thread that
# has slept for a whole switch interval, most of it: polling that ended before would lose the interval again.
SPIN_SECONDS = 200e-6
# How many callers of one plugin can use a lane at the same time; further callers get their replies by U.
LANES = 4
# How many replies to another call a waiter skips. A worker running our code sends none.
_OTHERS = 3
# Seconds by which the receive timeout may exceed what is left, because changing it is a system call.
_SLACK = 0.01
_TIMEVAL = struct.Struct("ll")


class ReplySocket:
    """One reply lane, used by one thread at a time. ``owner`` is the runner whose instance replies on it.

    When the socket ends, the reply is handed over instead, by the thread that notices that the instance died or was
    replaced. That may happen after its caller has its reply and the next caller has the lane. Such a lane ends.

    The caller that has taken the lane closes its socket, and first reads what was sent before: a reply given before the
    end counts, however late it is read.
    """

    __slots__ = (
        "_closed",
        "_drain",
        "_free",
        "_handed",
        "_malformed",
        "_reactor",
        "_read",
        "_reader",
        "_received",
        "_socket",
        "_spin",
        "_taken",
        "_timeout",
        "_watched",
        "index",
        "owner",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        owner: object,
        end: socket.socket,
        free: deque[ReplySocket],
        reactor: Reactor,
        received: Callable[[Response], object],
        malformed: Callable[[KernelError], object],
        drain: Callable[[Callable[[], object]], object],
        spin: AdaptiveSpin,
        read: Callable[[bytes], tuple[int, bytes] | None] | None = None,
    ) -> None:
        """``read`` returns the id and the value of a plain reply, None for any other datagram."""
        self.index = index
        self.owner = owner
        self._socket = end
        self._free = free
        self._reactor = reactor
        self._received = received
        self._malformed = malformed
        self._drain = drain
        self._spin = spin
        # Whether a caller has the lane: until it has its reply, or releases the lane.
        self._taken = False
        self._watched = self._closed = False
        self._read = read
        self._reader = ReplyReader()
        self._timeout = 0.0
        self._handed: SimpleQueue[Response] = SimpleQueue()
        end.setblocking(True)

    def answer(self, reply: Response) -> None:
        """Hand over a reply that arrived another way."""
        self._handed.put(reply)
        if not (reply.elsewhere or self._watched):  # the waiter is notified on the lane, or is gone
            self._interrupt()

    def wait(self, id: int, deadline: float) -> Response | None:
        """Return the Response to this call, or None at the deadline. In that case the lane is free only after the late
        reply."""
        others = 0
        try:
            while (left := deadline - time.monotonic()) > 0:
                data = self._receive(left)
                if data == b"":
                    self._leave()
                    return self._wait_for_handed(id, deadline)
                for reply in self._replies(data):
                    if reply.id != id:
                        others += 1
                        if others > _OTHERS:
                            self._refuse(ProtocolError("MK0215", reason="replies to an unknown call on its reply lane"))
                            break
                        continue
                    complete = self._complete(reply, deadline) if reply.emitted or reply.elsewhere else reply
                    if complete is not None or time.monotonic() >= deadline:
                        self.release()  # nothing more will come on it
                        return complete
        except BaseException:
            self._strand()
            raise
        handed = self._handed_over(id)
        if handed is None or handed.elsewhere:
            self._strand()
        else:
            self._leave()
        return handed

    def _complete(self, reply: Response, deadline: float) -> Response | None:
        """Wait until what the callee sent before the reply is handled, and return the reply, which may be among that.

        So the caller's next step cannot overtake the callee's events. Return None if the reply has not arrived by the
        deadline. A reply on the lane is returned even after the deadline: the caller finds that it is too late, and
        removes the call from the callee, which is done with it.
        """
        drained = threading.Event()
        self._reactor.post(partial(self._drain, drained.set))
        while (left := deadline - time.monotonic()) > 0:
            if drained.wait(min(left, MAX_WAIT)):
                return self._handed_over(reply.id) if reply.elsewhere else reply
        return None if reply.elsewhere else reply

    def _wait_for_handed(self, id: int, deadline: float) -> Response | None:
        while (left := deadline - time.monotonic()) > 0:
            with suppress(Empty):
                reply = self._handed.get(timeout=min(left, MAX_WAIT))
                if reply.id == id:
                    return reply
        return None

    def _handed_over(self, id: int) -> Response | None:
        while not self._handed.empty():
            reply = self._handed.get()
            if reply.id == id:
                return reply
        return None

    def release(self) -> None:
        """Free the lane for the next caller."""
        self._leave()
        self._free.append(self)

    def drop(self) -> None:
        self._reactor.post(self._end_watch)

    def close(self) -> None:
        """Close the lane. On the reactor's thread."""
        if self._watched:
            self._watched = False
            self._reactor.unwatch(self._socket.fileno())
        self._interrupt()
        self._closed = True
        if not self._taken:
            self._socket.close()

    def take(self) -> ReplySocket:
        self._taken = True
        return self

    def _leave(self) -> None:
        """Give up the lane. Whichever of this and ``close`` runs last closes the socket."""
        self._taken = False
        if self._closed:
            self._socket.close()

    def _strand(self) -> None:
        """Leave a lane on which a reply may still come; the reactor reads it."""
        self._reactor.post(self._begin_watch)
        self._leave()

    def _begin_watch(self) -> None:
        if not self._closed:
            self._watched = True
            self._reactor.watch(self._socket.fileno(), self._read_late)

    def _read_late(self) -> None:
        try:
            data = self._socket.recv(frames.DATAGRAM, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._watched = False
            self._reactor.unwatch(self._socket.fileno())
        for reply in self._replies(data):
            self._received(reply)
            self._end_watch()

    def _end_watch(self) -> None:
        if self._watched:
            self._watched = False
            self._reactor.unwatch(self._socket.fileno())
            self.release()

    def _receive(self, left: float) -> bytes | None:
        """Return a datagram; empty at the end of the socket, None at the timeout.

        It polls only if no other caller of this plugin waits, because they would wait for this thread, too. It uses the
        descriptor's number, which cannot be reused before this thread leaves the lane.
        """
        if len(self._free) == LANES - 1 and (soon := self._spin.try_receive(self._socket.fileno())):
            return soon
        try:
            self._limit(left)
            return self._socket.recv(frames.DATAGRAM)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _replies(self, data: bytes | None) -> list[Response]:
        if self._read is not None and data and not self._reader.is_partial and (plain := self._read(data)):
            return [Response(plain[0], Raw(plain[1]))]
        try:
            replies = self._reader.receive(data) if data else []
            for reply in replies:
                if reply.shares:
                    raise ProtocolError("MK0215", reason="attachments of a reply must be sent with the reply")
                if reply.failure is not None:
                    reply.failure = as_reported(reply.failure, OF_REPLIES)
            return replies
        except ProtocolError as error:
            self._refuse(error)
            return []

    def _refuse(self, error: ProtocolError) -> None:
        """Report the worker as malformed, which kills it; its death answers the callers that wait."""
        self._malformed(error)
        self._interrupt()

    def _interrupt(self) -> None:
        with suppress(OSError):  # closed already: the waiter is gone or about to leave
            self._socket.shutdown(socket.SHUT_RD)

    def _limit(self, left: float) -> None:
        if not left <= self._timeout <= left + _SLACK:
            self._timeout = left
            seconds = int(left)
            timeval = _TIMEVAL.pack(seconds, max(1, int((left - seconds) * 1e6)))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
