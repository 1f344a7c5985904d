"""What a worker has sent and the kernel has not handled yet: handled in turns, so that no worker holds the reactor."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from microkernel.wire.messages import Message

Work = Callable[[], object]
# How long the messages of one worker are handled before other descriptors and timers have their turn.
TURN = 0.002


class Inbox:
    """Handles messages in their order. On the reactor's thread only.

    A turn ends after ``TURN`` seconds, between two messages, also inside a frame. What is left is handled in further
    turns, which ``post`` brings; until then nothing more is to be read.
    """

    def __init__(
        self,
        handle: Callable[[Message], object],
        post: Callable[[Work], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handle = handle
        self._post = post
        self._clock = clock
        self._left: deque[Message | Work] = deque()
        self._until = 0.0
        self._is_scheduled = False
        self._closed = False

    @property
    def is_behind(self) -> bool:
        """Whether something is left of an earlier turn; a further one will come by itself."""
        return self._is_scheduled

    def begin_turn(self) -> None:
        self._until = self._clock() + TURN

    def put(self, received: Sequence[Message]) -> bool:
        """Handle them, or keep what the turn has no time for. Return whether there is time for more."""
        if self._left:
            self._left.extend(received)
            return False
        clock, until = self._clock, self._until
        for index, message in enumerate(received, 1):
            self.handle(message)
            if clock() >= until or self._closed:
                self._keep(received[index:])
                return False
        return True

    def then(self, work: Work) -> None:
        """Call ``work`` when all that was put so far is handled. It is called at once if nothing is left."""
        if self._left:
            self._left.append(work)
        else:
            work()

    def close(self) -> None:
        """Handle no more messages. Work that waits for them is done now."""
        self._closed = True
        left, self._left = self._left, deque()
        for each in left:
            if not isinstance(each, Message):
                each()

    def _keep(self, rest: Sequence[Message]) -> None:
        if rest and not self._closed:
            self._left.extend(rest)
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._post(self._continue)

    def _continue(self) -> None:
        self._is_scheduled = False
        self.begin_turn()
        while self._left:
            each = self._left.popleft()
            if isinstance(each, Message):
                self.handle(each)
            else:
                each()
            if self._left and self._clock() >= self._until:
                self._schedule()
                return
