"""Bounds, by size, on the memory that the kernel uses on behalf of others.

There are three kinds. Deliveries in a mailbox take *slots*, and ``OversizeTable`` has those that take more than one.
Items that stay until their owner removes them are charged to a ``Quota``. ``BoundedHistory`` keeps the newest of the
items that their owner never removes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from sys import getsizeof
from typing import Generic, TypeVar

from microkernel.wire.slots import SLOT_BYTES, slots_for

T = TypeVar("T")

# Bytes charged for an item in addition to its size, for the kernel's own objects around it.
ITEM_OVERHEAD = 512


def memory_size(*texts: str) -> int:
    """Return the bytes that texts take in memory. One character can make a whole text four times as large."""
    return sum(map(getsizeof, texts))


class OversizeTable(dict[int, int]):
    """Slots beyond the first that large items take, by number. Small items are only counted, by the owner.

    May be used on any thread: a note is made before the item is put, and removed after the item. A kill in between
    leaves a stale note, which is removed when no item is left.
    """

    def note(self, number: int, size: int) -> None:
        if size > SLOT_BYTES:
            self[number] = slots_for(size) - 1

    def slots(self, count: int) -> int:
        """Return the slots that ``count`` items take, these included."""
        if not self:
            return count
        if not count:
            self.clear()
        return count + sum(self.values())


class PendingTable(dict[int, T]):
    """Items under way, by number, each with the slots that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self._large = OversizeTable()

    @property
    def slots(self) -> int:
        return self._large.slots(len(self)) if self._large else len(self)

    def add(self, number: int, thing: T, size: int) -> None:
        if size > SLOT_BYTES:
            self._large.note(number, size)
        self[number] = thing

    def remove(self, number: int) -> T | None:
        """Remove an item, and return it; None if it was not there."""
        thing = self.pop(number, None)
        if self._large:
            self._large.pop(number, None)
        return thing


class Quota:
    """Charges of one owner, by key and in total, and the number of keys of each kind (``kind_of``).

    On the reactor's thread.
    """

    def __init__(self, kind_of: Callable[[Hashable], str] = lambda _: "") -> None:
        self.used = 0
        self.counts: Counter[str] = Counter()
        self._kind_of = kind_of
        self._sizes: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sizes

    def take(self, key: Hashable, size: int, limit: float) -> bool:
        """Charge a key, replacing its previous charge. Return False, and charge nothing, above ``limit`` (0: none)."""
        used = self.used - self._sizes.get(key, 0) + size
        if limit and used > limit and used > self.used:
            return False
        if key not in self._sizes:
            self.counts[self._kind_of(key)] += 1
        self._sizes[key], self.used = size, used
        return True

    def release(self, key: Hashable) -> None:
        if key in self._sizes:
            self.counts[self._kind_of(key)] -= 1
            self.used -= self._sizes.pop(key)


class BoundedHistory(Generic[T]):
    """The newest items, bounded by number and by bytes. The very newest is always kept.

    Changed on the reactor's thread, read on any.
    """

    def __init__(self, most: int, limit: float, size_of: Callable[[T], int]) -> None:
        self._most = most
        self._limit = limit
        self._size_of = size_of
        self._things: deque[T] = deque()
        self.used = 0

    def __iter__(self) -> Iterator[T]:
        return iter([*self._things])

    def __len__(self) -> int:
        return len(self._things)

    def append(self, thing: T) -> None:
        self._things.append(thing)
        self.used += self._size_of(thing)
        while len(self) > self._most or (self._limit and self.used > self._limit and len(self) > 1):
            self.used -= self._size_of(self._things.popleft())

    def remove(self, thing: T) -> None:
        """Remove an item. Raises ValueError if it is not there."""
        self._things.remove(thing)
        self.used -= self._size_of(thing)
