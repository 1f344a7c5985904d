"""Frames: a length, then a MessagePack array of messages. One format for streams and for datagrams.

Over a datagram socket a frame is one datagram, or, when it is longer, several in a row; the reader below puts them
together, as it does with what a stream cuts anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct

from microkernel.errors import ProtocolError

MAX_FRAME = 16 * 1024 * 1024 + 64 * 1024
"""The longest frame: one payload at its limit and its envelope."""
TRUSTED = 1024 * 1024 * 1024
"""The same where the other end is the kernel: sources and the answers to an ``ask`` are several payloads."""
MAX_BATCH = 4096
"""The most messages in a frame."""
DATAGRAM = 64 * 1024
"""What goes into one datagram."""

_HEAD = Struct(">IBI")
"""Length of what follows it, then the array header of MessagePack (0xdd and a 32-bit count)."""
HEAD = _HEAD.size
_LENGTH = Struct(">I")
_ARRAY32 = 0xDD
_COUNT_BYTES = _HEAD.size - _LENGTH.size


def pack(elements: Sequence[bytes]) -> bytes:
    """A frame of already encoded messages."""
    body = b"".join(elements)
    return _HEAD.pack(len(body) + _COUNT_BYTES, _ARRAY32, len(elements)) + body


def datagrams(frame: bytes) -> list[bytes]:
    """A frame cut to what one datagram takes; nearly always the frame itself."""
    if len(frame) <= DATAGRAM:
        return [frame]
    return [frame[i : i + DATAGRAM] for i in range(0, len(frame), DATAGRAM)]


class Reader:
    """Cuts bytes, however they arrive, into frame bodies.

    The length is checked before anything is kept for it: a frame of more than ``limit`` bytes, or of more than
    ``MAX_BATCH`` messages, is a ProtocolError and ends the reader.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are whole now."""
        if not self._kept and self._is_one_frame(data):
            yield data[_LENGTH.size :]
            return
        self._kept += data
        while len(self._kept) >= max(self._wanted, _HEAD.size):
            self._wanted = self._checked_length(self._kept)
            if len(self._kept) < self._wanted:
                return
            body = bytes(self._kept[_LENGTH.size : self._wanted])
            del self._kept[: self._wanted]
            self._wanted = 0
            yield body

    def _is_one_frame(self, data: bytes) -> bool:
        return len(data) >= _HEAD.size and self._checked_length(data) == len(data)

    def _checked_length(self, data: bytes | bytearray) -> int:
        length, array, count = _HEAD.unpack_from(data)
        if array != _ARRAY32 or length < _COUNT_BYTES:
            raise ProtocolError("MK0215", reason="not a frame of this protocol")
        if length > self._limit:
            raise ProtocolError("MK0215", reason=f"a frame of {length:,} bytes, over the limit of {self._limit:,}")
        if count > MAX_BATCH:
            raise ProtocolError("MK0215", reason=f"a frame of {count:,} messages, over the limit of {MAX_BATCH:,}")
        return int(length) + _LENGTH.size
