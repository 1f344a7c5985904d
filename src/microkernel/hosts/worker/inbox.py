"""Queue of messages that a worker has sent, handled in turns so that no worker occupies the reactor."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import Protocol

from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.wire.messages import Message

Work = Callable[[], object]
# How long the messages of one worker are handled before other descriptors and timers have their turn.
TURN = 0.002


class Source(Protocol):
    """Where an inbox gets its messages from."""

    def decode(self, data: bytes) -> Iterable[Message | None]:
        """Return the messages that this datagram completes; None among them is a point where a turn may end."""

    def pause_reading(self, seconds: float, wake: Callable[[], object]) -> None:
        """Stop reading for this long without waking the reactor; then call ``wake``."""

    def resume_reading(self) -> None:
        """Read again."""


class Inbox:
    """Handles messages in order. On the reactor's thread only.

    A turn ends after ``TURN`` seconds, between two messages, also inside a frame. The backlog is handled in further
    turns, which ``post`` schedules; until then nothing more is to be read. If turns are charged to
    an account, nothing is handled after a turn that took too much, for as long as the account says.
    """

    def __init__(
        self,
        handle: Callable[[Message], object],
        post: Callable[[Work], object],
        clock: Callable[[], float] = time.monotonic,
        source: Source | None = None,
    ) -> None:
        self._handle = handle
        self._account: TimeAccount | None = None
        # Bytes that were received and wait to be decoded.
        self.unread = 0
        self._post = post
        self._source = source
        self._clock = clock
        self._backlog: deque[bytes | Iterator[Message | None] | Work] = deque()
        self._turn_start = self._turn_end = 0.0
        self._is_scheduled = False
        self._is_resting = False
        self._closed = False

    @property
    def is_behind(self) -> bool:
        """Whether a backlog is left of an earlier turn. A further turn is already scheduled."""
        return self._is_scheduled or self._is_resting

    def handle_with(self, handle: Callable[[Message], object]) -> None:
        """Pass messages to this function, from the next turn on, or the next datagram."""
        self._handle = handle

    def charge_to(self, account: TimeAccount) -> None:
        """Charge turns to this account, and pause when it says so."""
        self._account = account

    def begin_turn(self) -> None:
        self._turn_end = self._clock() + TURN
        if self._account is not None:
            self._turn_start = self._account.work_clock()

    def end_turn(self) -> None:
        """Charge the work done since ``begin_turn``."""
        if self._account is not None and not self._is_resting and not self._closed:
            pause = self._account.spend(self._account.work_clock() - self._turn_start)
            if pause and self._source is not None:
                self._is_resting = True
                self._source.pause_reading(pause, self._wake)

    def put(self, received: Iterable[Message | None]) -> bool:
        """Handle the messages, or keep those that the turn has no time for. Return whether time is left."""
        messages = iter(received)
        if self._backlog or self._is_resting:
            self._backlog.append(messages)
            return False
        return self._run(messages) or self._defer(messages)

    def put_data(self, data: bytes) -> None:
        """Handle the messages of a datagram. Behind a backlog it is kept encoded, because decoded messages are far
        larger."""
        if self._backlog or self._is_resting:
            self._backlog.append(data)
            self.unread += len(data)
        elif self._source is not None:
            self.put(self._source.decode(data))

    def call_after(self, work: Work) -> None:
        """Call ``work`` when everything put so far is handled; at once if nothing is left."""
        if self._backlog:
            self._backlog.append(work)
        else:
            work()

    def close(self) -> None:
        """Handle no more messages. Work that waits for them is done now."""
        self._closed = True
        left, self._backlog, self.unread = self._backlog, deque(), 0
        if self._account is not None:
            self._account.close()
        for each in left:
            if callable(each):
                each()

    def _run(self, messages: Iterator[Message | None]) -> bool:
        """Handle messages until the turn ends. Return whether time is left."""
        clock, until, handle = self._clock, self._turn_end, self._handle
        for message in messages:
            if message is not None:
                handle(message)
            if clock() >= until or self._closed:
                return False
        return True

    def _defer(self, messages: Iterator[Message | None]) -> bool:
        """Keep the rest of these messages at the front of the backlog."""
        if not self._closed and length_hint(messages, 1):
            self._backlog.appendleft(messages)
            self._schedule()
        return False

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._post(self._continue)

    def _continue(self) -> None:
        self._is_scheduled = False
        if self._is_resting or self._closed:
            return
        self.begin_turn()
        while self._backlog and self._handle_next():
            continue
        if self._backlog:
            self._schedule()
        self.end_turn()

    def _handle_next(self) -> bool:
        """Handle the first entry of the backlog. Return whether time is left."""
        each = self._backlog.popleft()
        if callable(each):
            each()
            return self._clock() < self._turn_end
        if isinstance(each, bytes):
            self.unread -= len(each)
            assert self._source is not None
            each = iter(self._source.decode(each))
        return self._run(each) or self._defer(each)

    def _wake(self) -> None:
        self._is_resting = False
        if self._closed or self._source is None:
            return
        self._source.resume_reading()
        if self._backlog:
            self._schedule()
