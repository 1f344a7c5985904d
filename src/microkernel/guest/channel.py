"""A guest's end of a channel: what a worker does with its sockets, over the functions it is given instead.

There is one thread. Without an event loop, who waits for an answer reads U alone, as a worker does; with one, the loop
waits for both (``loop.py``), and what has come is kept here until it is asked for.
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


class World(Protocol):
    """The imports of ``world.wit``."""

    def receive(self, sources: int, timeout: float) -> str: ...
    def send(self, frame: str) -> bool: ...
    def reply(self, lane: int, frame: str) -> bool: ...
    def wait(
        self, sources: int, reading: list[int], writing: list[int], timeout: float
    ) -> tuple[int, list[int], list[int]]: ...


class GuestChannel(RequestChannel):
    """A ``sdk.channel.Channel``. The worker has said hello already."""

    memory = None

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._sessions = {source: Session("worker", limit=frames.TRUSTED) for source in (DOWN, UP)}
        self._came: dict[int, deque[bytes]] = {DOWN: deque(), UP: deque()}

    # Down

    def receive(self, timeout: float | None) -> Sequence[Message]:
        until = None if timeout is None else time.monotonic() + timeout
        while self.wait(DOWN, None if until is None else max(0.0, until - time.monotonic())):
            if whole := self._sessions[DOWN].receive(self._came[DOWN].popleft()):
                return whole
        return ()

    def fileno(self) -> int:
        return DOWN

    def wait(self, sources: int, timeout: float | None) -> int:
        """Which of the sources have something; 0 when the time is over. Raises ChannelClosed."""
        ready = self._kept(sources)
        if not ready:
            came = self._world.receive(sources, -1.0 if timeout is None else timeout).encode("latin-1")
            ready = came[0] if came else 0
            if ready == _CLOSED:
                raise ChannelClosed
            if ready:
                self._came[ready].append(came[1:])
        return ready

    def wait_beside(
        self, sources: int, reading: list[int], writing: list[int], timeout: float | None
    ) -> tuple[int, list[int], list[int]]:
        """Which of the sources have something, and which connections can go on; perhaps none before time is over."""
        kept = self._kept(sources)
        wait = 0.0 if kept else -1.0 if timeout is None else timeout
        came, readable, writable = self._world.wait(sources & ~kept, reading, writing, wait)
        for source in SOURCES:
            if source & came:
                self.wait(source, 0.0)
        return kept | came, readable, writable

    def _kept(self, sources: int) -> int:
        return sources & ((DOWN if self._came[DOWN] else 0) | (UP if self._came[UP] else 0))

    # Up

    def _write(self, frame: bytes) -> None:
        if not self._world.send(frame.decode("latin-1")):
            raise ChannelClosed

    def _write_to_lane(self, lane: int, frame: bytes) -> bool:
        return self._world.reply(lane, frame.decode("latin-1"))

    def _up_fileno(self) -> int:
        return UP

    def _read_available(self) -> None:
        self._read_until(0.0, lambda: False)

    def _read_until(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Read until there is enough, or the deadline has passed: what has come by then is read."""
        while not enough():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.wait(UP, left):
                return
            for message in self._sessions[UP].receive(self._came[UP].popleft()):
                self._handle(message)
