"""``Buffer``: bytes that travel with a payload instead of in it."""

from __future__ import annotations

from typing import Any

from microkernel.wire.messages import Attachment


class Buffer:
    """Bytes as they were when they were shared. ``data`` is a read-only ``memoryview`` of them (one dimension, format
    ``B``), to be read where they lie: ``numpy.frombuffer(buffer.data, dtype=...)`` copies nothing. From Python 3.12 on
    a Buffer itself does where bytes-like objects do.

    Made by ``api.share`` or ``Kernel.share``, put into a payload anywhere, and annotated ``Buffer`` where it arrives.
    The bytes stay as they are for as long as the Buffer, or a view of its ``data``, is kept; then their memory is used
    again.
    """

    __slots__ = ("_share", "data")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data: memoryview, share: Attachment) -> None:
        self.data = data
        self._share = share

    @classmethod
    def __from_bytes__(cls, data: bytes) -> Buffer:
        """Plain bytes do where a Buffer is wanted."""
        return cls(memoryview(data), Attachment(len(data), data=data))

    def __len__(self) -> int:
        """How many bytes."""
        return len(self.data)

    def __bytes__(self) -> bytes:
        """A copy."""
        return self.data.tobytes()

    def __buffer__(self, _flags: int) -> memoryview:
        return memoryview(self.data)

    def __eq__(self, other: object) -> bool:
        """With another, or with anything bytes-like: by their bytes, which are copied for it (a memoryview compares
        item by item)."""
        if isinstance(other, Buffer):
            other = other.data
        if not isinstance(other, bytes | bytearray | memoryview):
            return NotImplemented
        return len(self) == memoryview(other).nbytes and bytes(self) == bytes(other)

    def __repr__(self) -> str:
        return f"<Buffer of {len(self.data):,} bytes>"


def attachment_of(value: Any) -> Attachment | None:
    """What travels beside a payload for a Buffer in it; None for anything else."""
    return value._share if isinstance(value, Buffer) else None
