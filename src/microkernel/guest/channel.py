"""A guest's end of a channel: what a worker does with its sockets, over the functions it is given instead.

There is one thread. Without an event loop, who waits for an answer reads U alone, as a worker does; with one, the loop
waits for both (``loop.py``), and what has come is kept here until it is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from microkernel.sdk.client.channel import ChannelClosed
from microkernel.wire import frames, messages
from microkernel.wire.messages import Message, Reply
from microkernel.wire.session import Session, pack, pack_for_lane
from microkernel.wire.slots import EMIT_WINDOW, size_of, slots_for

DOWN, UP = SOURCES = 1, 2
_CLOSED = 4
Answer = Callable[[Reply], object]


class World(Protocol):
    """The imports of ``world.wit``."""

    def receive(self, sources: int, timeout: float) -> str: ...
    def send(self, frame: str) -> bool: ...
    def reply(self, lane: int, frame: str) -> bool: ...
    def wait(
        self, sources: int, reading: list[int], writing: list[int], timeout: float
    ) -> tuple[int, list[int], list[int]]: ...


class GuestChannel:
    """A ``sdk.channel.Channel``. The worker has said hello already."""

    memory = None

    def __init__(self, world: World) -> None:
        self.on_orphan_reply: Answer
        self._world = world
        self._sessions = {source: Session("worker", limit=frames.TRUSTED) for source in (DOWN, UP)}
        self._came: dict[int, deque[bytes]] = {DOWN: deque(), UP: deque()}
        self._answers: dict[int, Answer] = {}
        self._waiting: dict[asyncio.AbstractEventLoop, int] = {}
        self._emitted = 0
        self._has_emitted = False

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

    def send(self, message: Message) -> None:
        if isinstance(message, messages.Emit):
            if self._emitted >= EMIT_WINDOW:
                self._read_up(None, lambda: self._emitted < EMIT_WINDOW)
            self._emitted += slots_for(size_of(message.data, message.shares))
            self._has_emitted = True
        elif isinstance(message, messages.Rejected):
            self._has_emitted = True  # what becomes of it, a dead letter, is to be seen by whoever has the answer
        if not self._world.send(pack([message]).decode("latin-1")):
            raise ChannelClosed

    def reply(self, reply: Reply, lane: int) -> None:
        if lane < 0:
            self.send(reply)
            return
        reply.emitted, self._has_emitted = self._has_emitted, False
        frame = pack_for_lane(reply)
        if not frame:
            reply.elsewhere = True
            self.send(reply)
            frame = pack([Reply(reply.id, emitted=reply.emitted, elsewhere=True)])
        if not self._world.reply(lane, frame.decode("latin-1")) and not reply.elsewhere:
            self.send(reply)  # the caller has given the lane up: the kernel drops what comes too late

    def request(self, id: int, message: Message, deadline: float) -> Reply | None:
        replies: list[Reply] = []
        self._answers[id] = replies.append
        try:
            self.send(message)
            self._read_up(deadline, lambda: bool(replies))
        finally:
            self._answers.pop(id, None)
        return replies[0] if replies else None

    def request_later(self, id: int, message: Message, answer: Answer) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        self._answers[id] = answer
        self._waiting[loop] = self._waiting.get(loop, 0) + 1
        if self._waiting[loop] == 1:
            loop.add_reader(UP, self._read_up, 0.0, lambda: False)
        self.send(message)
        return lambda: self._forget(loop, id)

    def _forget(self, loop: asyncio.AbstractEventLoop, id: int) -> None:
        self._answers.pop(id, None)
        self._waiting[loop] -= 1
        if self._waiting[loop] == 0:
            del self._waiting[loop]
            loop.remove_reader(UP)

    def _read_up(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Read until there is enough, or the deadline has passed: what has come by then is read."""
        while not enough():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.wait(UP, left):
                return
            self._take(self._came[UP].popleft())

    def _take(self, data: bytes) -> None:
        for message in self._sessions[UP].receive(data):
            if isinstance(message, Reply):
                answer = self._answers.pop(message.id, None)
                if answer is not None:
                    answer(message)
            elif isinstance(message, messages.Credit):
                self._emitted -= message.count
