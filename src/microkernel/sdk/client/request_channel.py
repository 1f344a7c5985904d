"""The sending half of the channels of workers and guests, where a waiting thread reads its own answer."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from microkernel.sdk.client.buffers import holds_of
from microkernel.sdk.client.channel import DIRECT_LANE
from microkernel.wire import messages
from microkernel.wire.messages import Message, Response
from microkernel.wire.session import pack, pack_for_lane
from microkernel.wire.slots import EMIT_WINDOW, size_of, slots_for

Answer = Callable[[Response], object]


class RequestChannel(ABC):
    """Base of a ``sdk.client.channel.Channel``: emits with credit, replies, and requests with their answers.

    A subclass writes frames and reads messages, which it passes to ``_handle``. ``lane_descriptors`` are those of its
    reply lanes, by number; without them, replies are sent by ``_write_to_lane`` only.
    """

    lane_descriptors: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._answers: dict[int, Answer] = {}
        # Requests that each event loop waits for: while there are any, it reads the answers.
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}
        self._emitted = 0
        self._has_emitted = False
        self._with_next: deque[Message] = deque()
        # Whether there are direct channels, so that ``_before_sending`` and ``_after_sending`` are to be called.
        self._has_direct = False

    def send(self, message: Message) -> None:
        if self._has_direct:
            self._before_sending(message)
        if isinstance(message, messages.Emit):
            if self._emitted >= EMIT_WINDOW:
                self._read_until(None, lambda: self._emitted < EMIT_WINDOW)
            self._emitted += slots_for(size_of(message.data, message.shares))
            self._has_emitted = True
        elif isinstance(message, messages.Rejected):
            self._has_emitted = True  # the receiver of the next reply must find the dead letter
        if self._with_next:
            self._write(pack([*self._before(), message]))
        else:
            self._write(pack([message]))
        if self._has_direct:
            self._after_sending(message)

    def _before(self) -> Iterator[Message]:
        with suppress(IndexError):  # another thread may take the last one
            while True:
                yield self._with_next.popleft()

    def reply(self, reply: Response, lane: int) -> None:
        if lane < 0:
            if lane == DIRECT_LANE:
                self._reply_direct(reply)
            else:
                self.send(reply)
            return
        reply.emitted, self._has_emitted = self._has_emitted, False
        frame = pack_for_lane(reply)
        if not frame:
            reply.elsewhere = True
            self.send(reply)
            frame = pack([Response(reply.id, emitted=reply.emitted, elsewhere=True)])
        if not self._write_to_lane(lane, frame) and not reply.elsewhere:
            self.send(reply)  # the caller has released the lane: the kernel drops a late reply

    def request(self, id: int, message: Message, deadline: float) -> Response | None:
        replies: list[Response] = []
        self._answers[id] = replies.append
        try:
            self.send(message)
            self._read_until(deadline, lambda: bool(replies))
        finally:
            self._answers.pop(id, None)
        return replies[0] if replies else None

    def request_later(self, id: int, message: Message, answer: Answer) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        self._answers[id] = answer
        self._loops[loop] = self._loops.get(loop, 0) + 1
        if self._loops[loop] == 1:
            loop.add_reader(self._up_fileno(), self.read_available)
        self.send(message)
        return lambda: self._forget(loop, id)

    def request_ahead(self, id: int, message: Message, answer: Answer) -> None:
        self._answers[id] = answer
        self._with_next.append(message)

    def send_with_next(self, message: Message) -> None:
        self._with_next.append(message)

    def _forget(self, loop: asyncio.AbstractEventLoop, id: int) -> None:
        self._answers.pop(id, None)
        self._loops[loop] -= 1
        if self._loops[loop] == 0:
            del self._loops[loop]
            loop.remove_reader(self._up_fileno())

    def _handle(self, message: Message) -> None:
        """Handle a message that came from the kernel on the way up."""
        if isinstance(message, Response):
            answer = self._answers.pop(message.id, None)
            if answer is not None:
                answer(message)
            elif holds := holds_of(message.shares):  # the request is no longer waiting
                self.send(messages.ReleaseBuffers(holds))
        elif isinstance(message, messages.Credit):
            self._emitted -= message.count
        elif isinstance(message, messages.DirectRoute):
            self._add_route(message)

    def _before_sending(self, message: Message) -> None:
        """Called before a message is sent, if ``_has_direct``."""
        raise NotImplementedError

    def _after_sending(self, message: Message) -> None:
        """Called after a message was sent, if ``_has_direct``."""
        raise NotImplementedError

    def _reply_direct(self, reply: Response) -> None:
        """Answer a call that came on a direct channel."""
        raise NotImplementedError

    def _add_route(self, message: messages.DirectRoute) -> None:
        """Call a plugin on a direct channel from now on."""
        raise NotImplementedError

    @abstractmethod
    def _write(self, frame: bytes) -> None:
        """Send a frame to the kernel. Raises ChannelClosed."""

    @abstractmethod
    def _write_to_lane(self, lane: int, frame: bytes) -> bool:
        """Send a frame to a reply lane. Return False if the caller has released it."""

    @abstractmethod
    def _up_fileno(self) -> int:
        """Return the descriptor that is readable when an answer has arrived."""

    @abstractmethod
    def read_available(self) -> None:
        """Read the answers that have arrived, without waiting."""

    @abstractmethod
    def _read_until(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Read answers until ``enough()`` is true or the deadline (monotonic) has passed."""
