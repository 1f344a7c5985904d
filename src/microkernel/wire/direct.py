"""Messages on a direct channel between two plugins: one in each datagram, without a frame around it."""

from __future__ import annotations

from microkernel.errors import ProtocolError
from microkernel.wire import frames
from microkernel.wire.codec import DECODE_FAILURES, decoder_for, encode_message
from microkernel.wire.messages import DirectCall, Response

# A call that takes longer, in seconds, is reported to the kernel by its caller.
ADOPT_AFTER = 0.001
# An answer that comes later than this after its call was sent goes through the kernel, or is at least reported to it:
# earlier than any caller reports a call. So the kernel learns the end of every call that was reported.
ANSWER_WITHIN = ADOPT_AFTER / 2

_decode_call = decoder_for(DirectCall)
_decode_reply = decoder_for(Response)


def pack_direct(message: DirectCall | Response) -> bytes:
    """Return the datagram of a message; empty if it does not fit into one, or cannot be encoded."""
    try:
        data = encode_message(message)
    except UnicodeEncodeError:
        return b""
    return data if len(data) <= frames.DATAGRAM else b""


def read_call(data: bytes) -> DirectCall:
    """Return the call in a datagram. Raises ProtocolError for anything else."""
    try:
        call: DirectCall = _decode_call(data)
    except DECODE_FAILURES as failure:
        raise ProtocolError("MK0215", reason=f"not a call: {failure}") from None
    return call


def read_reply(data: bytes) -> Response:
    """Return the reply in a datagram. Raises ProtocolError for anything else."""
    try:
        reply: Response = _decode_reply(data)
    except DECODE_FAILURES as failure:
        raise ProtocolError("MK0215", reason=f"not a reply: {failure}") from None
    return reply
