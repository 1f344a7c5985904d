"""Frames: a length, then a MessagePack array of messages. One format for streams and for datagrams.

Over a datagram socket a frame is one datagram, or, when it is longer, several in a row; the reader below puts them
together, as it does with what a stream cuts anywhere.
"""

from __future__ import annotations

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

HEAD = 4
"""Bytes before the array: its length."""
_length = Struct(">I")
head = _length.pack
"""What comes before an array of so many bytes."""


def datagrams(frame: bytes) -> list[bytes]:
    """A frame cut to what one datagram takes; nearly always the frame itself."""
    if len(frame) <= DATAGRAM:
        return [frame]
    return [frame[i : i + DATAGRAM] for i in range(0, len(frame), DATAGRAM)]


class Reader:
    """Cuts bytes, however they arrive, into frame bodies.

    The length is checked before anything is kept for it, the count before anything is decoded: a frame of more than
    ``limit`` bytes, or of more than ``MAX_BATCH`` messages, is a ProtocolError and ends the reader.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are whole now."""
        size = len(data) - HEAD
        if not self._kept and 0 < size <= self._limit and data[HEAD] in _FEW and _length.unpack_from(data)[0] == size:
            return [data[HEAD:]]  # nearly always
        if not self._kept and len(data) >= HEAD and self._end_of_first(data) == len(data):
            return [_checked(data[HEAD:])]
        self._kept += data
        bodies = []
        while len(self._kept) >= max(self._wanted, HEAD):
            self._wanted = self._end_of_first(self._kept)
            if len(self._kept) < self._wanted:
                break
            with memoryview(self._kept) as kept:  # a slice of it would be one more copy, of what may be large
                bodies.append(_checked(bytes(kept[HEAD : self._wanted])))
            if len(self._kept) == self._wanted:
                self._kept = bytearray()
            else:
                del self._kept[: self._wanted]
            self._wanted = 0
        return bodies

    def _end_of_first(self, data: bytes | bytearray) -> int:
        length: int = _length.unpack_from(data)[0]
        if not length or (len(data) > HEAD and data[HEAD] not in _ARRAYS):
            raise ProtocolError("MK0215", reason="not a frame of this protocol")
        if length > self._limit:
            raise ProtocolError("MK0215", reason=f"a frame of {length:,} bytes, over the limit of {self._limit:,}")
        return length + HEAD


_COUNT_BYTES = {0xDC: 2, 0xDD: 4}
"""How many bytes the count takes in MessagePack's longer arrays; up to 15 it is in the first byte."""
_FEW = frozenset(range(0x90, 0xA0))
_ARRAYS = _FEW.union(_COUNT_BYTES)
"""What arrays begin with."""


def _checked(body: bytes) -> bytes:
    if body[0] in _COUNT_BYTES:
        count = int.from_bytes(body[1 : 1 + _COUNT_BYTES[body[0]]], "big")
        if count > MAX_BATCH:
            raise ProtocolError("MK0215", reason=f"a frame of {count:,} messages, over the limit of {MAX_BATCH:,}")
    return body
