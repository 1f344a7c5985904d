"""The number of mailbox slots that a message takes, as a worker and the kernel both count it."""

from __future__ import annotations

from collections.abc import Sequence

from microkernel.wire.codec import Raw
from microkernel.wire.messages import Attachment

# Bytes of a slot. A longer message takes one more slot for each further 8 KiB.
SLOT_BYTES = 8 * 1024
# Slots of a worker's emits that the kernel has not queued yet; at this number the next emit waits for credit.
EMIT_WINDOW = 1024


# Maximum size in bytes of data that is sent inline even if shared memory is available: mapping it would cost more.
MAX_INLINE = 64 * 1024
# Most bytes of free blocks lent with one answer, so that many small blocks do not need a request each. Blocks larger
# than this are not requested in advance, because a block that is lent and not used is kept.
LENT_AT_ONCE = 4 * 1024 * 1024
_MIN_BLOCK = 256 * 1024


def block_size(size: int) -> int:
    """Return the size of the block that is allocated for ``size`` bytes: one of four sizes between a power of two and
    the next, so that blocks can be reused for similar sizes."""
    size = max(size, 1)
    step = max(_MIN_BLOCK, 1 << (size - 1).bit_length() >> 3)
    return -(-size // step) * step


def size_of(data: Raw, shares: Sequence[Attachment]) -> int:
    """Return the bytes of a payload with its attachments."""
    return len(data) + sum(share.size for share in shares) if shares else len(data)


def slots_for(size: int) -> int:
    """Return the number of slots for a message of ``size`` bytes: one, more if it is large."""
    return (size - 1) // SLOT_BYTES + 1 if size > SLOT_BYTES else 1
