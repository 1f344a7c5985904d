"""Memory that instances are lent, to send each other what is large: who has it, and when it is free again.

A *block* is a file in memory. It is lent to one instance, which alone may write to it, again and again until it ends.
A *lease* keeps a block from being written to anew. Whoever is to find the bytes as they are has it: letters that wait,
answers under way, dead letters, and instances, each under the number of a *hold* that is its own. So nothing is
counted: a lease is an object, and its block is free when that has gone.

Blocks are made, lent and given up on the reactor's thread. What happens on others is one C call each: a lease is taken
out of a dict, or put into it, or let go of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl
from itertools import count
from mmap import mmap
from weakref import WeakSet, ref

from microkernel.errors import PayloadTooLarge, PermissionDenied
from microkernel.wire.codec import MAX_PAYLOAD, MOST_ATTACHED
from microkernel.wire.messages import Attachment, BlocksFreed, Message
from microkernel.wire.slots import block_size

MOST_BLOCKS = 256
"""Of one instance: each is a descriptor and a mapping of the kernel's."""
_AT_ONCE = 4 * 1024 * 1024
"""Bytes of free blocks that are lent with one answer, so that not each of many is asked for."""
_numbers = count(1)
_holds = count(1)


class Lease:
    """As long as this is there, nobody writes to the block."""

    __slots__ = ("__weakref__", "block")

    def __init__(self, block: Block) -> None:
        self.block = block


class Block:
    """So many bytes of memory, which can neither shrink nor grow: nobody's look at them can fail."""

    def __init__(self, size: int) -> None:
        self.number = next(_numbers)
        self.size = size
        self.mapped_by: WeakSet[BufferAccount] = WeakSet()
        """Who is to be told when it is gone."""
        self.idle = False
        """It has been free for a while."""
        self._lease: Callable[[], Lease | None] = _nobody
        self._memory: mmap | None = None
        self.descriptor = os.memfd_create("microkernel-buffer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            fcntl(self.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
        except BaseException:
            os.close(self.descriptor)
            raise

    @property
    def memory(self) -> mmap:
        """For who is in this process. On any thread; mapped when it is first asked for."""
        memory = self._memory
        if memory is None:
            memory = self._memory = mmap(self.descriptor, self.size)
        return memory

    @property
    def is_free(self) -> bool:
        return self._lease() is None

    def lease(self) -> Lease:
        lease = Lease(self)
        self._lease, self.idle = ref(lease), False
        return lease

    def read(self, size: int) -> bytes:
        return os.pread(self.descriptor, size, 0)

    def close(self) -> None:
        """The memory is there until the last view of it has gone."""
        os.close(self.descriptor)
        self._memory = None


class HeldShare(Attachment):
    """A Share in the kernel: with its lease, if it is in a block. It is never sent as it is."""

    lease: Lease | None = None


class BufferAccount:
    """What one instance has. ``in_memory``: it can be lent blocks; what goes to others and comes from them is bytes.
    ``limit`` in bytes, 0 for none."""

    def __init__(self, name: str, limit: float, tell: Callable[[Message], object], *, in_memory: bool) -> None:
        self._name = name
        self._limit = limit
        self._tell = tell
        self.in_memory = in_memory
        self.blocks: list[Block] = []
        self._leases: dict[int, Lease] = {}
        self.closed = False

    @property
    def used(self) -> int:
        """Bytes of the blocks that it was lent."""
        return sum(block.size for block in self.blocks)

    # On any thread

    def take(self, shares: Iterable[Attachment]) -> tuple[HeldShare, ...]:
        """What it sends, for the kernel to keep. Raises PermissionDenied for what it does not have."""
        parts = tuple(map(self._part, shares))
        if len(parts) > MOST_ATTACHED:
            raise self._refusal(f"{len(parts):,} at once")
        return parts

    def give(self, parts: Iterable[Attachment]) -> tuple[Attachment, ...]:
        """What it is sent. Raises PayloadTooLarge for what must be sent as bytes, and has too many."""
        return tuple(map(self._share, parts))

    def release(self, holds: Iterable[int]) -> None:
        """It reads them no more. What it does not have is passed over."""
        for hold in holds:
            self._leases.pop(hold, None)

    def block(self, number: int) -> Block:
        """One of which it has a part. Raises PermissionDenied."""
        for lease in [*self._leases.values()]:
            if lease.block.number == number:
                return lease.block
        raise self._refusal(f"block {number}")

    def close(self) -> None:
        """It has ended, and reads nothing any more."""
        self.closed = True
        self._leases.clear()

    def _hold(self, lease: Lease, size: int) -> Attachment:
        hold = next(_holds)
        self._leases[hold] = lease
        if self.closed:
            self._leases.clear()
        return Attachment(size, hold, lease.block.number)

    def _part(self, share: Attachment) -> HeldShare:
        if not share.hold:
            return HeldShare(len(share.data), data=share.data)
        lease = self._leases.get(share.hold)
        if lease is None or not 0 <= share.size <= lease.block.size:
            raise self._refusal(f"{share.size:,} bytes by hold {share.hold}")
        return HeldShare(share.size, lease=lease)

    def _share(self, part: Attachment) -> Attachment:
        assert isinstance(part, HeldShare)
        if part.lease is None:
            return Attachment(part.size, data=part.data)
        if self.in_memory:
            return self._hold(part.lease, part.size)
        if part.size > MAX_PAYLOAD:
            raise PayloadTooLarge("MK0624", name=self._name, size=part.size, limit=MAX_PAYLOAD)
        return Attachment(part.size, data=part.lease.block.read(part.size))

    def _refusal(self, what: str) -> PermissionDenied:
        return PermissionDenied("MK0417", name=self._name, what=what)

    # On the reactor's thread

    def descriptor(self, number: int) -> tuple[int, bool]:
        """Of a block that it is going to map, and whether it may write to it. Raises PermissionDenied."""
        block = self.block(number)
        block.mapped_by.add(self)
        return block.descriptor, block in self.blocks

    def lend(self, size: int) -> list[Attachment]:
        """Blocks that it may write to, each whole. Raises PayloadTooLarge."""
        if not self.in_memory:
            raise self._refusal("memory")
        wanted = block_size(size)
        free = [block for block in self.blocks if block.size == wanted and block.is_free]
        chosen = free[: max(1, _AT_ONCE // wanted)] or [self._made(size, wanted)]
        return [self._hold(block.lease(), block.size) for block in chosen]

    def _made(self, size: int, wanted: int) -> Block:
        if not self._has_room(wanted):
            self.give_up(lambda block: block.is_free)
        if not self._has_room(wanted):
            raise PayloadTooLarge("MK0625", name=self._name, size=size, used=self.used, limit=int(self._limit))
        try:
            block = Block(wanted)
        except (OSError, OverflowError) as failure:
            raise PayloadTooLarge("MK0626", name=self._name, size=size, reason=str(failure)) from None
        self.blocks.append(block)
        return block

    def _has_room(self, size: int) -> bool:
        return len(self.blocks) < MOST_BLOCKS and not (self._limit and self.used + size > self._limit)

    def give_up(self, unwanted: Callable[[Block], bool]) -> None:
        """Blocks go, and who has mapped one is told."""
        gone = [block for block in self.blocks if unwanted(block)]
        self.blocks = [block for block in self.blocks if block not in gone]
        for block in gone:
            for holdings in [*block.mapped_by]:
                holdings.forget(block.number)
            block.close()

    def forget(self, number: int) -> None:
        if not self.closed:
            self._tell(BlocksFreed([number]))


class BufferPool:
    """The holdings of all who were ever lent something, until nothing is left. On the reactor's thread."""

    def __init__(self, later: Callable[[float, Callable[[], object]], object]) -> None:
        self._later = later
        self._lenders: list[BufferAccount] = []
        self._before_sweep: list[Callable[[], object]] = []

    def before_sweep(self, work: Callable[[], object]) -> None:
        """Call ``work`` before each sweep. The embedding program releases what it no longer reads."""
        self._before_sweep.append(work)

    def lend(self, holdings: BufferAccount, size: int) -> list[Attachment]:
        """Raises PayloadTooLarge, PermissionDenied."""
        lent = holdings.lend(size)
        if not self._lenders:
            self._later(_IDLE, self._sweep)
        if holdings not in self._lenders:
            self._lenders.append(holdings)
        return lent

    def close(self) -> None:
        """Whoever looks at something still can."""
        for holdings in self._lenders:
            holdings.give_up(lambda _: True)
        self._lenders.clear()

    def sweep(self) -> None:
        """Give up what is left of who has ended, and nobody reads any more."""
        for holdings in self._lenders:
            if holdings.closed:
                holdings.give_up(lambda block: block.is_free)
        self._lenders = [holdings for holdings in self._lenders if holdings.blocks]

    def _sweep(self) -> None:
        """What was free at two looks is given up too: the memory of what was shared once is not kept for ever."""
        for work in self._before_sweep:
            work()
        for holdings in self._lenders:
            holdings.give_up(lambda block: block.is_free and block.idle)
            for block in holdings.blocks:
                block.idle = block.is_free
        self.sweep()
        if self._lenders:
            self._later(_IDLE, self._sweep)


_IDLE = 5.0
"""Seconds between two looks."""


def _nobody() -> None:
    """It was never lent."""
