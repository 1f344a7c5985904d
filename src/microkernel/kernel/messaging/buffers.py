"""Shared memory for large payloads between instances: which instance holds it, and when it is free again.

A *block* is a file in memory. It is lent to one instance, repeatedly, until that instance ends; only that instance may
write to it. A *lease* protects a block from being overwritten. Everything that needs the bytes unchanged holds a lease:
waiting deliveries, replies under way, dead letters, and instances, each under the number of its *hold*. Nothing is
counted, because a lease is an object and its block is free when the object is gone.

Blocks are created, lent and freed on the reactor's thread. Operations on other threads are one C call each: a lease is
taken out of a dict, put into it, or released.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl
from itertools import count
from mmap import mmap
from weakref import WeakSet, ref

from microkernel.errors import PayloadTooLarge, PermissionDenied
from microkernel.wire.codec import MAX_ATTACHED, MAX_PAYLOAD
from microkernel.wire.messages import Attachment, BlocksFreed, Message
from microkernel.wire.slots import LENT_AT_ONCE, block_size

# Most blocks of one instance. Each takes a descriptor and a mapping in the kernel.
MOST_BLOCKS = 256
_numbers = count(1)
_holds = count(1)


class Lease:
    """Protects a block from being written to, as long as this object exists."""

    __slots__ = ("__weakref__", "block")

    def __init__(self, block: Block) -> None:
        self.block = block


class Block:
    """Memory of a fixed size. It can neither shrink nor grow, so reading it cannot fail."""

    def __init__(self, size: int) -> None:
        self.number = next(_numbers)
        self.size = size
        # Accounts to notify when it is freed.
        self.mapped_by: WeakSet[BufferAccount] = WeakSet()
        # It was already free at the previous sweep.
        self.idle = False
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
        """Return the mapping for use in this process, made at first use. On any thread."""
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
        """Close the descriptor. The memory remains until the last view of it is gone."""
        os.close(self.descriptor)
        self._memory = None


class HeldShare(Attachment):
    """An Attachment inside the kernel, with its lease if it is in a block. Never sent in this form."""

    lease: Lease | None = None


class BufferAccount:
    """Blocks and leases of one instance.

    ``in_memory``: the instance can be lent blocks; for other instances, attachments are sent as bytes in both
    directions. ``limit`` in bytes, 0 for none.
    """

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
        """Return the bytes of the blocks lent to the instance."""
        return sum(block.size for block in self.blocks)

    # On any thread

    def take(self, shares: Iterable[Attachment]) -> tuple[HeldShare, ...]:
        """Return attachments that the instance sends, for the kernel to keep.

        Raises PermissionDenied for a hold that it does not have, or too many attachments.
        """
        parts = tuple(map(self._part, shares))
        if len(parts) > MAX_ATTACHED:
            raise self._refusal(f"{len(parts):,} at once")
        return parts

    def give(self, parts: Iterable[Attachment]) -> tuple[Attachment, ...]:
        """Return attachments to send to the instance. Raises PayloadTooLarge if one has to be sent as bytes and is too
        long for that."""
        return tuple(map(self._share, parts))

    def release(self, holds: Iterable[int]) -> None:
        """Release holds that the instance no longer reads. Unknown ones are ignored."""
        for hold in holds:
            self._leases.pop(hold, None)

    def block(self, number: int) -> Block:
        """Return a block that the instance holds. Raises PermissionDenied if it does not hold it."""
        for lease in [*self._leases.values()]:
            if lease.block.number == number:
                return lease.block
        raise self._refusal(f"block {number}")

    def close(self) -> None:
        """Release everything, because the instance has ended."""
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
        """Return the descriptor of a block for the instance to map, and whether the instance may write to it.

        Raises PermissionDenied if it does not hold the block.
        """
        block = self.block(number)
        block.mapped_by.add(self)
        return block.descriptor, block in self.blocks

    def allocate(self, size: int, *, ahead: bool = False) -> list[Attachment]:
        """Return whole blocks of at least ``size`` bytes for the instance to write to.

        ``ahead``: the instance does not need them yet. Then only free blocks are returned, and none to an instance that
        has used half of its limit; but a second block of this size is made, so that one can be written while the other
        is read.

        Raises PayloadTooLarge over the limits, PermissionDenied for an instance that cannot be lent blocks.
        """
        if not self.in_memory:
            raise self._refusal("memory")
        requested = block_size(size)
        if ahead and self._is_half_used():
            return []
        free = [block for block in self.blocks if block.size == requested and block.is_free]
        chosen = free[: max(1, LENT_AT_ONCE // requested - ahead)]  # it still has the one before
        if not chosen and (not ahead or self._may_add_second(requested)):
            chosen = [self._made(size, requested)]
        return [self._hold(block.lease(), block.size) for block in chosen]

    def _may_add_second(self, size: int) -> bool:
        return sum(block.size == size for block in self.blocks) < 2 and self._has_room(size)

    def _is_half_used(self) -> bool:
        return 2 * len(self.blocks) >= MOST_BLOCKS or (bool(self._limit) and 2 * self.used >= self._limit)

    def _made(self, size: int, requested: int) -> Block:
        if not self._has_room(requested):
            self.free(lambda block: block.is_free)
        if not self._has_room(requested):
            raise PayloadTooLarge("MK0625", name=self._name, size=size, used=self.used, limit=int(self._limit))
        try:
            block = Block(requested)
        except (OSError, OverflowError) as failure:
            raise PayloadTooLarge("MK0626", name=self._name, size=size, reason=str(failure)) from None
        self.blocks.append(block)
        return block

    def _has_room(self, size: int) -> bool:
        return len(self.blocks) < MOST_BLOCKS and not (self._limit and self.used + size > self._limit)

    def free(self, unwanted: Callable[[Block], bool]) -> None:
        """Free blocks, and notify the accounts that have mapped one."""
        gone = [block for block in self.blocks if unwanted(block)]
        self.blocks = [block for block in self.blocks if block not in gone]
        for block in gone:
            for account in [*block.mapped_by]:
                account.forget(block.number)
            block.close()

    def forget(self, number: int) -> None:
        if not self.closed:
            self._tell(BlocksFreed([number]))


class BufferPool:
    """Accounts to which blocks are lent, until all of these are freed. On the reactor's thread."""

    def __init__(self, later: Callable[[float, Callable[[], object]], object]) -> None:
        self._later = later
        self._accounts: list[BufferAccount] = []
        self._before_sweep: list[Callable[[], object]] = []

    def before_sweep(self, work: Callable[[], object]) -> None:
        """Call ``work`` before each sweep, so that the embedding program releases blocks it no longer reads."""
        self._before_sweep.append(work)

    def allocate(self, account: BufferAccount, size: int, *, ahead: bool = False) -> list[Attachment]:
        """Lend blocks to an account. Raises PayloadTooLarge and PermissionDenied, as BufferAccount.allocate does."""
        lent = account.allocate(size, ahead=ahead)
        if not self._accounts:
            self._later(_IDLE, self._sweep)
        if account not in self._accounts:
            self._accounts.append(account)
        return lent

    def close(self) -> None:
        """Free all blocks. Existing views of them stay valid."""
        for account in self._accounts:
            account.free(lambda _: True)
        self._accounts.clear()

    def sweep(self) -> None:
        """Free blocks of ended instances that are no longer read."""
        for account in self._accounts:
            if account.closed:
                account.free(lambda block: block.is_free)
        self._accounts = [account for account in self._accounts if account.blocks]

    def _sweep(self) -> None:
        """Sweep, and also free blocks that were already free at the previous sweep.

        Memory that was shared once is not kept for ever.
        """
        for work in self._before_sweep:
            work()
        for account in self._accounts:
            account.free(lambda block: block.is_free and block.idle)
            for block in account.blocks:
                block.idle = block.is_free
        self.sweep()
        if self._accounts:
            self._later(_IDLE, self._sweep)


# Seconds between two sweeps.
_IDLE = 5.0


def _nobody() -> None:
    """Return None, as the lease of a block that was never lent."""
