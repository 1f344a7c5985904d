"""The kernel's runner of a remote client: sends messages to it, and bounds how much may be queued."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from microkernel.kernel.ports import Audit, DirectLink, MessageSource, Reactor
from microkernel.wire.messages import Message
from microkernel.wire.session import pack

# Maximum number of bytes queued for a client that does not read; two of the longest frames.
MAX_QUEUED = 32 * 1024 * 1024
# Seconds within which a client must read some of the queued bytes.
STALL_TIMEOUT = 10.0
# Number of queued bytes above which events stay in the mailbox.
_HIGH_WATER = 256 * 1024
_BATCH = 64


class Outbox:
    """Queue of bytes for a non-blocking socket. On the reactor's thread only."""

    def __init__(
        self,
        connection: socket.socket,
        reactor: Reactor,
        on_empty: Callable[[], object],
        abandon: Callable[[str], object],
    ) -> None:
        self._connection = connection
        self._reactor = reactor
        self._on_empty = on_empty
        self._abandon = abandon
        self._parts: deque[memoryview] = deque()
        self._writer = -1
        self._sent = 0
        self.size = 0

    def put(self, frame: bytes) -> None:
        if self.size + len(frame) > MAX_QUEUED:
            self._abandon("it does not read what it is sent")
            return
        self._parts.append(memoryview(frame))
        self.size += len(frame)
        if self._writer < 0:
            self._write()

    def close(self) -> None:
        self._parts.clear()
        self.size = 0
        self._stop_writing()

    def _write(self) -> None:
        try:
            while self._parts:
                self._advance(self._connection.send(self._parts[0]))
        except BlockingIOError:
            self._wait()
        except OSError as error:
            self._abandon(str(error))
        else:
            self._stop_writing()
            self._on_empty()

    def _advance(self, sent: int) -> None:
        self._sent += sent
        self.size -= sent
        if sent == len(self._parts[0]):
            self._parts.popleft()
        else:
            self._parts[0] = self._parts[0][sent:]

    def _wait(self) -> None:
        """Continue when the socket is writable. Watches a duplicate of the descriptor, because the reactor watches each
        for one event."""
        if self._writer < 0:
            try:
                self._writer = os.dup(self._connection.fileno())
            except OSError as error:
                self._abandon(f"its socket is full, and no descriptor is left to wait for room: {error.strerror}")
                return
            self._reactor.watch(self._writer, self._write, write=True)
            self._reactor.later(STALL_TIMEOUT, partial(self._check_progress, self._sent))

    def _stop_writing(self) -> None:
        if self._writer >= 0:
            self._reactor.unwatch(self._writer)
            os.close(self._writer)
            self._writer = -1

    def _check_progress(self, before: int) -> None:
        if self._writer < 0:
            return
        if self._sent == before:
            self._abandon("it does not read what it is sent")
        else:
            self._reactor.later(STALL_TIMEOUT, partial(self._check_progress, self._sent))


class RemoteClientRunner:
    """A ``ports.Runner`` over a connection. May be used on any thread, also one that can be killed, because everything
    is posted to the reactor."""

    def __init__(
        self,
        connection: socket.socket,
        pid: int,
        source: MessageSource,
        reactor: Reactor,
        close: Callable[[str], object],
    ) -> None:
        self._pid = pid
        self._source = source
        self._reactor = reactor
        self._close = close
        self._closed = False
        self.outbox = Outbox(connection, reactor, self._pump, close)

    @property
    def pid(self) -> int | None:
        return self._pid

    def send(self, message: Message) -> None:
        self._reactor.post(partial(self._send, message))

    def wake(self) -> None:
        self._reactor.post(self._pump)

    pump = wake

    def lane(self) -> None:
        """Return None: remote clients have no lanes, replies come through the main channel."""

    def direct_link(self, number: int) -> None:
        """Return None: direct channels connect processes that the kernel has started."""

    def join_direct(self, number: int, link: DirectLink) -> bool:  # noqa: ARG002
        return False

    def drain(self, drained: Callable[[], object]) -> None:
        """Call ``drained`` at once, because the server reads the connection on the reactor's thread."""
        drained()

    def is_waiting(self) -> bool:
        return False

    def is_stopped(self) -> bool:
        """Return False: a remote client may sleep, so the heartbeat does not check."""
        return False

    def stack(self) -> str:
        return ""

    def request_exit(self) -> None:
        self.kill()

    def kill(self) -> None:
        self._reactor.post(partial(self._close, "it was sent away"))

    def statistics(self, *, recent: bool = False) -> Mapping[str, Any]:  # noqa: ARG002 - nothing is measured
        return {}

    def audit(self) -> Audit:
        return Audit()

    def closed(self) -> None:
        """Discard the queue because the connection is closed. On the reactor's thread."""
        self._closed = True
        self.outbox.close()

    def _send(self, message: Message) -> None:
        if not self._closed:
            self.outbox.put(pack([message]))

    def _pump(self) -> None:
        while not self._closed and self.outbox.size < _HIGH_WATER:
            taken = self._source.take(_BATCH)
            if not taken:
                return
            self.outbox.put(pack(taken))
