"""The far end of a connection as a place: what the kernel sends to a visitor, and how much of it may wait."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from microkernel.kernel.ports import Audit, MessageSource, Reactor
from microkernel.wire.messages import Message
from microkernel.wire.session import pack

MAX_QUEUED = 32 * 1024 * 1024
"""Bytes that may wait for a visitor that does not read; two of the longest frames."""
STALL_TIMEOUT = 10.0
"""Seconds in which a visitor for which something waits must read something."""
_HIGH_WATER = 256 * 1024
"""With so many bytes waiting, events stay in the mailbox."""
_BATCH = 64


class Outbox:
    """Bytes on their way into a socket that is not waited for. On the reactor's thread only."""

    def __init__(
        self,
        connection: socket.socket,
        reactor: Reactor,
        on_empty: Callable[[], object],
        give_up: Callable[[str], object],
    ) -> None:
        self._connection = connection
        self._reactor = reactor
        self._on_empty = on_empty
        self._give_up = give_up
        self._parts: deque[memoryview] = deque()
        self._writer = -1
        self._sent = 0
        self.size = 0

    def put(self, frame: bytes) -> None:
        if self.size + len(frame) > MAX_QUEUED:
            self._give_up("it does not read what it is sent")
            return
        self._parts.append(memoryview(frame))
        self.size += len(frame)
        if self._writer < 0:
            self._write()

    def close(self) -> None:
        self._parts.clear()
        self.size = 0
        self._rest()

    def _write(self) -> None:
        try:
            while self._parts:
                self._advance(self._connection.send(self._parts[0]))
        except BlockingIOError:
            self._wait()
        except OSError as error:
            self._give_up(str(error))
        else:
            self._rest()
            self._on_empty()

    def _advance(self, sent: int) -> None:
        self._sent += sent
        self.size -= sent
        if sent == len(self._parts[0]):
            self._parts.popleft()
        else:
            self._parts[0] = self._parts[0][sent:]

    def _wait(self) -> None:
        """Write on when there is room. A copy of the descriptor: the reactor watches each for one thing."""
        if self._writer < 0:
            try:
                self._writer = os.dup(self._connection.fileno())
            except OSError as error:
                self._give_up(f"its socket is full, and no descriptor is left to wait for room: {error.strerror}")
                return
            self._reactor.watch(self._writer, self._write, write=True)
            self._reactor.later(STALL_TIMEOUT, partial(self._look, self._sent))

    def _rest(self) -> None:
        if self._writer >= 0:
            self._reactor.unwatch(self._writer)
            os.close(self._writer)
            self._writer = -1

    def _look(self, before: int) -> None:
        if self._writer < 0:
            return
        if self._sent == before:
            self._give_up("it does not read what it is sent")
        else:
            self._reactor.later(STALL_TIMEOUT, partial(self._look, self._sent))


class RemoteClientRunner:
    """A ``ports.Runner`` over a connection. Any thread may use it, also one that can be killed: all of it is posted."""

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
        """There is none: its answers are handed over."""

    def drain(self, drained: Callable[[], object]) -> None:
        """Call ``drained`` at once: the server reads the connection, on the reactor's thread."""
        drained()

    def is_waiting(self) -> bool:
        return False

    def is_stopped(self) -> bool:
        """Nobody asks: who came by a socket may sleep as long as it likes."""
        return False

    def stack(self) -> str:
        return ""

    def request_exit(self) -> None:
        self.kill()

    def kill(self) -> None:
        self._reactor.post(partial(self._close, "it was sent away"))

    def statistics(self, *, recent: bool = False) -> Mapping[str, Any]:  # noqa: ARG002 - it is always measured now
        return {}

    def audit(self) -> Audit:
        return Audit()

    def closed(self) -> None:
        """The connection is gone. On the reactor's thread."""
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
