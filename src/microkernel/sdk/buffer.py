"""``Buffer``: bytes that are sent beside a payload instead of inside it."""

from __future__ import annotations

from typing import Any

from microkernel.wire.messages import Attachment


class Buffer:
    """Immutable bytes in memory that sender and receivers share.

    ``data`` is a read-only ``memoryview`` of them (one dimension, format ``B``) without a copy:
    ``numpy.frombuffer(buffer.data, dtype=...)``. From Python 3.12 on a Buffer is itself a bytes-like object.

    ``api.share`` and ``Kernel.share`` create Buffers. Put one anywhere into a payload, and annotate the receiving
    parameter as ``Buffer``. The bytes are valid as long as the Buffer or a view of its ``data`` is referenced;
    afterwards the memory is reused.
    """

    __slots__ = ("_share", "data")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data: memoryview, share: Attachment) -> None:
        self.data = data
        self._share = share

    @classmethod
    def __from_bytes__(cls, data: bytes) -> Buffer:
        """Return a Buffer of plain bytes: they are accepted wherever a Buffer is annotated."""
        return cls(memoryview(data), Attachment(len(data), data=data))

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self.data)

    def __bytes__(self) -> bytes:
        """Return a copy of the bytes."""
        return self.data.tobytes()

    def __buffer__(self, _flags: int) -> memoryview:
        return memoryview(self.data)

    def __eq__(self, other: object) -> bool:
        """Compare the bytes with those of another Buffer or bytes-like object.

        Copies both, because a memoryview compares item by item.
        """
        if isinstance(other, Buffer):
            other = other.data
        if not isinstance(other, bytes | bytearray | memoryview):
            return NotImplemented
        return len(self) == memoryview(other).nbytes and bytes(self) == bytes(other)

    def __repr__(self) -> str:
        return f"<Buffer of {len(self.data):,} bytes>"


def attachment_of(value: Any) -> Attachment | None:
    """Return the Attachment to send beside a payload for a Buffer in it; None for any other value."""
    return value._share if isinstance(value, Buffer) else None
