"""Texts in their order, for walks that are continued later while texts come and go."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

_LONGEST = 1024  # texts of one block: a longer one is divided, so that an insertion moves few


class SortedKeys:
    """A set of texts. ``add`` and ``remove`` cost the same for many texts as for few. On one thread."""

    def __init__(self) -> None:
        self._blocks: list[list[str]] = []
        self._firsts: list[str] = []

    def add(self, key: str) -> None:
        """Idempotent."""
        at = self._block_of(key)
        if at < 0:
            at = 0
            if not self._blocks:
                self._blocks, self._firsts = [[key]], [key]
                return
        block = self._blocks[at]
        place = bisect_left(block, key)
        if place < len(block) and block[place] == key:
            return
        insort(block, key)
        self._firsts[at] = block[0]
        if len(block) > _LONGEST:
            half = len(block) // 2
            self._blocks[at : at + 1] = [block[:half], block[half:]]
            self._firsts[at : at + 1] = [block[0], block[half]]

    def remove(self, key: str) -> None:
        """Does nothing if the key is not there."""
        at = self._block_of(key)
        if at < 0:
            return
        block = self._blocks[at]
        place = bisect_left(block, key)
        if place == len(block) or block[place] != key:
            return
        del block[place]
        if block:
            self._firsts[at] = block[0]
        else:
            del self._blocks[at], self._firsts[at]

    def after(self, key: str) -> Iterator[str]:
        """Iterate over the texts after this one, in order. Nothing may be added or removed meanwhile."""
        at = max(self._block_of(key), 0)
        for number in range(at, len(self._blocks)):
            block = self._blocks[number]
            yield from block[bisect_right(block, key) :] if number == at else block

    def _block_of(self, key: str) -> int:
        """Return the number of the block that the key belongs in, -1 before the first."""
        return bisect_right(self._firsts, key) - 1
