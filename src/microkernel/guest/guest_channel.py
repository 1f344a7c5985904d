"""The guest's end of its channel: like a worker's, but over imported functions instead of sockets.

There is one thread. Without an event loop, a request reads U alone until its answer arrives, as a worker does. With
one, the loop waits for both D and U (``loop.py``), and received frames are stored here until they are requested.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from microkernel.sdk.client.channel import ChannelClosed
from microkernel.sdk.client.request_channel import RequestChannel
from microkernel.wire import frames
from microkernel.wire.messages import Message
from microkernel.wire.session import Session

DOWN, UP = SOURCES = 1, 2
_CLOSED = 4


class ChannelWorld(Protocol):
    """The imports of ``world.wit``."""

    def receive(self, sources: int, timeout: float) -> str: ...
    def send(self, frame: str) -> bool: ...
    def reply(self, lane: int, frame: str) -> bool: ...
    def wait(
        self, sources: int, reading: list[int], writing: list[int], timeout: float
    ) -> tuple[int, list[int], list[int]]: ...


class GuestChannel(RequestChannel):
    """A ``sdk.client.channel.Channel``. The worker has already sent the Hello."""

    memory = None

    direct = None

    def __init__(self, world: ChannelWorld) -> None:
        super().__init__()
        self._world = world
        self._sessions = {source: Session("worker", limit=frames.MAX_TRUSTED_FRAME) for source in (DOWN, UP)}
        self._received: dict[int, deque[bytes]] = {DOWN: deque(), UP: deque()}

    # Down

    def receive(self, timeout: float | None) -> Sequence[Message]:
        until = None if timeout is None else time.monotonic() + timeout
        while self.wait(DOWN, None if until is None else max(0.0, until - time.monotonic())):
            if whole := self._sessions[DOWN].receive(self._received[DOWN].popleft()):
                return whole
        return ()

    def receive_control(self, timeout: float | None) -> Sequence[Message]:
        return self.receive(timeout)

    def fileno(self) -> int:
        return DOWN

    def wait(self, sources: int, timeout: float | None) -> int:
        """Return the sources that have data; 0 after ``timeout`` seconds. Raises ChannelClosed."""
        ready = self._buffered(sources)
        if not ready:
            received = self._world.receive(sources, -1.0 if timeout is None else timeout).encode("latin-1")
            ready = received[0] if received else 0
            if ready == _CLOSED:
                raise ChannelClosed
            if ready:
                self._received[ready].append(received[1:])
        return ready

    def wait_beside(
        self, sources: int, reading: list[int], writing: list[int], timeout: float | None
    ) -> tuple[int, list[int], list[int]]:
        """Return the sources that have data, and the connections that are readable and writable; possibly none, even
        before the time is over."""
        buffered = self._buffered(sources)
        wait = 0.0 if buffered else -1.0 if timeout is None else timeout
        received, readable, writable = self._world.wait(sources & ~buffered, reading, writing, wait)
        for source in SOURCES:
            if source & received:
                self.wait(source, 0.0)
        return buffered | received, readable, writable

    def _buffered(self, sources: int) -> int:
        return sources & ((DOWN if self._received[DOWN] else 0) | (UP if self._received[UP] else 0))

    # Up

    def _write(self, frame: bytes) -> None:
        if not self._world.send(frame.decode("latin-1")):
            raise ChannelClosed

    def _write_to_lane(self, lane: int, frame: bytes) -> bool:
        return self._world.reply(lane, frame.decode("latin-1"))

    def _up_fileno(self) -> int:
        return UP

    def read_available(self) -> None:
        self._read_until(0.0, lambda: False)

    def _read_until(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Read until ``enough()`` is true or the deadline has passed; data that has arrived by then is read."""
        while not enough():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.wait(UP, left):
                return
            for message in self._sessions[UP].receive(self._received[UP].popleft()):
                self._handle(message)
