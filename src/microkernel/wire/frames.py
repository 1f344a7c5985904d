"""Frames: a length, then a MessagePack array of messages. The same format for streams and datagrams.

Over a datagram socket a frame is one datagram or, if it is longer, several consecutive ones. Reader reassembles them,
as it does with the pieces of a stream.
"""

from __future__ import annotations

from struct import Struct

from microkernel.errors import ProtocolError

# Maximum size of a frame in bytes: one payload at its limit and its envelope.
MAX_FRAME = 16 * 1024 * 1024 + 64 * 1024
# Maximum size of a frame from the kernel: sources, and the answers to an ``ask``, are several payloads.
MAX_TRUSTED_FRAME = 1024 * 1024 * 1024
# Maximum number of messages in a frame.
MAX_BATCH = 4096
# Maximum size of one datagram in bytes.
DATAGRAM = 64 * 1024

# Bytes before the array: its length.
HEAD = 4
_length = Struct(">I")
# Returns the head of a frame for an array of this many bytes.
head = _length.pack


def datagrams(frame: bytes) -> list[bytes]:
    """Split a frame into datagrams; usually it is one."""
    if len(frame) <= DATAGRAM:
        return [frame]
    return [frame[i : i + DATAGRAM] for i in range(0, len(frame), DATAGRAM)]


class Reader:
    """Split received bytes into frame bodies.

    The length is checked before memory is used for it, the count before anything is decoded. A frame of more than
    ``limit`` bytes, or of more than ``MAX_BATCH`` messages, raises ProtocolError and ends the reader.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._wanted = 0

    @property
    def is_partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._kept)

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes. Return the bodies that are complete."""
        size = len(data) - HEAD
        if not self._kept and 0 < size <= self._limit and data[HEAD] in _FEW and _length.unpack_from(data)[0] == size:
            return [data[HEAD:]]  # the usual case
        if not self._kept and len(data) >= HEAD and self._end_of_first(data) == len(data):
            return [_checked(data[HEAD:])]
        self._kept += data
        bodies = []
        while len(self._kept) >= max(self._wanted, HEAD):
            self._wanted = self._end_of_first(self._kept)
            if len(self._kept) < self._wanted:
                break
            with memoryview(self._kept) as kept:  # a slice of the bytearray would copy once more, and it may be large
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


# Number of bytes of the count in MessagePack's longer arrays; up to 15 items it is in the first byte.
_COUNT_BYTES = {0xDC: 2, 0xDD: 4}
_FEW = frozenset(range(0x90, 0xA0))
# First bytes of arrays.
_ARRAYS = _FEW.union(_COUNT_BYTES)


def _checked(body: bytes) -> bytes:
    if body[0] in _COUNT_BYTES:
        count = int.from_bytes(body[1 : 1 + _COUNT_BYTES[body[0]]], "big")
        if count > MAX_BATCH:
            raise ProtocolError("MK0215", reason=f"a frame of {count:,} messages, over the limit of {MAX_BATCH:,}")
    return body
