"""A session: the two ends' agreement on a protocol, and messages in order. Sans-I/O and blind to its role.

``expects hello -> open -> closed``. Whatever does not fit is a ProtocolError, and closes it: a session never guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from microkernel.errors import ProtocolError
from microkernel.wire import frames, messages
from microkernel.wire.codec import DECODE_FAILURES, decoder_for, encode_message
from microkernel.wire.messages import PROTOCOL, Hello, Message, Refuse, Reply
from microkernel.wire.parts import KEPT, WHOLE, detached, take_apart
from microkernel.wire.slots import SLOT_BYTES
from microkernel.wire.texts import valid_texts

_decode = decoder_for(list[messages.Any_])
_decode_replies = decoder_for(list[Reply])


def pack(batch: Sequence[Message]) -> bytes:
    """One frame of these messages."""
    try:
        body = encode_message(batch)
    except UnicodeEncodeError:  # a name or a text with half a character; paths were made texts before
        body = encode_message(valid_texts(batch))
    return frames.head(len(body)) + body


class Session:
    """One end of a channel: ``hello()`` once, then ``pack`` what goes out and ``receive`` what comes in."""

    def __init__(self, role: str, name: str = "", token: str = "", limit: int = frames.MAX_FRAME) -> None:
        self._own = Hello(PROTOCOL, role, name, token)
        self._reader = frames.Reader(limit)
        self._closed = ""
        self.peer: Hello | None = None
        """Who the other end says it is; None until it has said so. A claim: identity is the channel's."""

    def hello(self) -> bytes:
        """The frame that opens this end."""
        return pack([self._own])

    def receive(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete; the other end's Hello is taken out and kept as ``peer``.

        Raises ProtocolError for bytes that are no messages, for another protocol, for a missing Hello.
        """
        if self._closed:
            raise ProtocolError("MK0215", reason=f"the session is closed: {self._closed}")
        try:
            received: list[Message] = []
            for body in self._reader.feed(data):
                received += _decode(body)
            return received if self.peer else self._greet(received)
        except ProtocolError as error:
            self._closed = error.text
            raise
        except DECODE_FAILURES as failure:
            raise self._unreadable(failure) from None

    def receive_gradually(self, data: bytes) -> Iterable[Message | None]:
        """The same of an end that is not trusted. The messages of a frame that is larger than a datagram come one by
        one, as they are taken: all together they can be many times as large as the frame. None stands where whoever
        takes them should see to something else before it goes on; what does not fit is raised while they are taken.
        """
        if self._closed or self.peer is None:
            return self.receive(data)
        try:
            bodies = self._reader.feed(data)
            if len(bodies) == 1 and len(bodies[0]) <= WHOLE:  # nearly always
                body = bodies[0]
                received: list[Message] = _decode(body)
                if len(body) > SLOT_BYTES:
                    for each in received:
                        if type(each) in KEPT:  # events are not among them
                            detached(each, len(body))
                return received
        except ProtocolError as error:
            self._closed = error.text
            raise
        except DECODE_FAILURES as failure:
            raise self._unreadable(failure) from None
        return chain.from_iterable(map(self._one_by_one, bodies)) if bodies else []

    def _one_by_one(self, body: bytes) -> Iterator[Message | None]:
        try:
            if len(body) > WHOLE:
                yield from take_apart(body)
            else:
                yield from (detached(each, len(body)) for each in _decode(body))
        except ProtocolError as error:
            self._closed = error.text
            raise
        except DECODE_FAILURES as failure:
            raise self._unreadable(failure) from None

    def _unreadable(self, failure: BaseException) -> ProtocolError:
        self._closed = str(failure)
        return ProtocolError("MK0215", reason=f"not a message: {failure}")

    def _greet(self, received: list[Message]) -> list[Message]:
        if not received:
            return []
        first = received[0]
        if isinstance(first, Refuse):
            raise ProtocolError(first.id, **first.fields)
        if not isinstance(first, Hello):
            raise ProtocolError("MK0216", theirs="none", ours=PROTOCOL, reason="it did not say hello")
        if first.protocol != PROTOCOL:
            raise ProtocolError("MK0216", theirs=first.protocol, ours=PROTOCOL, reason="another version")
        self.peer = first
        return received[1:]


def pack_for_lane(reply: Reply) -> bytes:
    """The frame of a reply on a reply lane. Empty if the reply has to go up: something is attached to it, or it is more
    than one datagram, which a caller's thread would have to put together and decode whatever it is."""
    if reply.shares or len(reply.value) > frames.DATAGRAM:
        return b""
    frame = pack([reply])
    return frame if len(frame) <= frames.DATAGRAM else b""


class ReplyReader:
    """What comes on a reply lane: frames of Replies, without a Hello. No frame is longer than one datagram."""

    def __init__(self) -> None:
        self._reader = frames.Reader(frames.DATAGRAM - frames.HEAD)

    def receive(self, data: bytes) -> list[Reply]:
        """Raises ProtocolError for bytes that are no Replies."""
        try:
            replies: list[Reply] = []
            for body in self._reader.feed(data):
                replies += _decode_replies(body)
            return replies
        except DECODE_FAILURES as failure:
            raise ProtocolError("MK0215", reason=f"not a reply: {failure}") from None


def refusal(error: ProtocolError) -> bytes:
    """The frame that tells a stranger why it is not let in."""
    return pack([Refuse(error.id, {key: str(value) for key, value in error.fields.items()})])
