"""How much room a message takes where it waits, as a worker and the kernel both count it."""

from __future__ import annotations

PLACE = 8 * 1024
"""Bytes. What is longer takes another place for each further of these."""
EMIT_WINDOW = 1024
"""How many places a worker's emits may take that have not found theirs; then the next one waits for credit."""


def places_of(size: int) -> int:
    """One, and more for what is large."""
    return (size - 1) // PLACE + 1 if size > PLACE else 1
