"""How much room a message takes where it waits, as a worker and the kernel both count it."""

from __future__ import annotations

from collections.abc import Sequence

from microkernel.wire.codec import Raw
from microkernel.wire.messages import Attachment

SLOT_BYTES = 8 * 1024
"""Bytes. What is longer takes another place for each further of these."""
EMIT_WINDOW = 1024
"""How many places a worker's emits may take that have not found theirs; then the next one waits for credit."""


SMALL = 64 * 1024
"""Bytes that travel as bytes also between ends that are lent memory: to fetch and to map it costs more."""
_LEAST_BLOCK = 256 * 1024


def block_size(size: int) -> int:
    """Of the block that is lent for so many bytes: four sizes between a power of two and the next, so that a block fits
    more than what it was made for."""
    size = max(size, 1)
    step = max(_LEAST_BLOCK, 1 << (size - 1).bit_length() >> 3)
    return -(-size // step) * step


def size_of(data: Raw, shares: Sequence[Attachment]) -> int:
    """Bytes of a payload, with what is attached to it."""
    return len(data) + sum(share.size for share in shares) if shares else len(data)


def slots_for(size: int) -> int:
    """One, and more for what is large."""
    return (size - 1) // SLOT_BYTES + 1 if size > SLOT_BYTES else 1
