"""A session: protocol agreement of two ends, then messages in order. Sans-I/O, and independent of the role.

``expects hello -> open -> closed``. Anything unexpected raises ProtocolError and closes the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from microkernel.errors import ProtocolError
from microkernel.wire import frames, messages
from microkernel.wire.codec import DECODE_FAILURES, decoder_for, encode_message
from microkernel.wire.messages import PROTOCOL, Hello, Message, Refuse, Response
from microkernel.wire.parts import MAX_WHOLE, STORED, take_apart, with_copied_payload
from microkernel.wire.slots import SLOT_BYTES
from microkernel.wire.texts import valid_texts

_decode = decoder_for(list[messages.Any_])
_decode_replies = decoder_for(list[Response])


def pack(batch: Sequence[Message]) -> bytes:
    """Return one frame with these messages."""
    try:
        body = encode_message(batch)
    except UnicodeEncodeError:  # a lone surrogate in a name or a text; paths were converted before
        body = encode_message(valid_texts(batch))
    return frames.head(len(body)) + body


class Session:
    """One end of a channel: send ``hello()`` once, then frames from ``pack``; pass received bytes to ``receive``."""

    def __init__(self, role: str, name: str = "", token: str = "", limit: int = frames.MAX_FRAME) -> None:
        self._own = Hello(PROTOCOL, role, name, token)
        self._reader = frames.Reader(limit)
        self._closed = ""
        # The other end's Hello, None until it has arrived. It is only a claim: identity comes from the channel.
        self.peer: Hello | None = None

    def hello(self) -> bytes:
        """Return the frame that opens this end."""
        return pack([self._own])

    def receive(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete. The other end's Hello is removed and stored as ``peer``.

        Raises ProtocolError for bytes that are not messages, for another protocol version, for a missing Hello.
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
        """Like ``receive``, for an end that is not trusted.

        The messages of a frame larger than a datagram are yielded one by one, because together they can be many times
        as large as the frame. None means that the caller should do other work before it continues. Errors are raised
        during the iteration.
        """
        if self._closed or self.peer is None:
            return self.receive(data)
        try:
            bodies = self._reader.feed(data)
            if len(bodies) == 1 and len(bodies[0]) <= MAX_WHOLE:  # the usual case
                body = bodies[0]
                received: list[Message] = _decode(body)
                if len(body) > SLOT_BYTES:
                    for each in received:
                        if type(each) in STORED:  # events are not among them
                            with_copied_payload(each, len(body))
                return received
        except ProtocolError as error:
            self._closed = error.text
            raise
        except DECODE_FAILURES as failure:
            raise self._unreadable(failure) from None
        return chain.from_iterable(map(self._one_by_one, bodies)) if bodies else []

    def _one_by_one(self, body: bytes) -> Iterator[Message | None]:
        try:
            if len(body) > MAX_WHOLE:
                yield from take_apart(body)
            else:
                yield from (with_copied_payload(each, len(body)) for each in _decode(body))
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


def pack_for_lane(reply: Response) -> bytes:
    """Return the frame of a reply for a reply lane. Empty if the reply must use the main channel, because it has
    attachments or is more than one datagram: the caller's thread would have to reassemble and decode it, whatever it
    is."""
    if reply.shares or len(reply.value) > frames.DATAGRAM:
        return b""
    frame = pack([reply])
    return frame if len(frame) <= frames.DATAGRAM else b""


class ReplyReader:
    """Decoder of a reply lane: frames of Replies, without a Hello. No frame is longer than one datagram."""

    def __init__(self) -> None:
        self._reader = frames.Reader(frames.DATAGRAM - frames.HEAD)

    @property
    def is_partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._reader.is_partial

    def receive(self, data: bytes) -> list[Response]:
        """Return the replies in a datagram. Raises ProtocolError for bytes that are not Replies."""
        try:
            replies: list[Response] = []
            for body in self._reader.feed(data):
                replies += _decode_replies(body)
            return replies
        except DECODE_FAILURES as failure:
            raise ProtocolError("MK0215", reason=f"not a reply: {failure}") from None


def refusal(error: ProtocolError) -> bytes:
    """Return the frame that tells an unknown peer why it is rejected."""
    return pack([Refuse(error.id, {key: str(value) for key, value in error.fields.items()})])
