"""Memory that instances are lent: who has it, and when it is free again."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from fcntl import F_GET_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl
from pathlib import Path

import pytest

from microkernel.errors import PayloadTooLarge, PermissionDenied
from microkernel.kernel.messaging.buffers import MOST_BLOCKS, BufferAccount, BufferPool
from microkernel.wire.messages import Attachment, BlocksFreed, Message
from microkernel.wire.slots import block_size
from tests.harness.leftovers import descriptors, opened_since

MEBIBYTE = 1024 * 1024


class Clock:
    """The timers that somebody asked for; ``tick`` lets them all be due."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def later(self, _seconds: float, work: Callable[[], object]) -> None:
        self.waiting.append(work)

    def tick(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class House:
    """A few instances, and what lends to them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.buffers = BufferPool(self.clock.later)
        self.told: dict[str, list[Message]] = {}

    def instance(self, name: str, limit: float = 64 * MEBIBYTE, *, in_memory: bool = True) -> BufferAccount:
        return BufferAccount(name, limit, self.told.setdefault(name, []).append, in_memory=in_memory)

    def lend(self, account: BufferAccount, size: int = MEBIBYTE) -> Attachment:
        return self.buffers.allocate(account, size)[0]

    def close(self) -> None:
        self.buffers.close()


def count_mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


@pytest.fixture
def house() -> Iterator[House]:
    before = descriptors()
    with closing(House()) as made:
        yield made
    assert opened_since(before) == {}


def test_block_is_free_when_it_has_no_holds(house: House) -> None:
    sender, receiver = house.instance("sender"), house.instance("receiver")
    own = house.lend(sender)
    (block,) = sender.blocks
    parts = sender.take([Attachment(1000, own.hold)])
    (theirs,) = receiver.give(parts)
    assert (theirs.size, theirs.block) == (1000, own.block)
    assert theirs.hold != own.hold
    sender.release([own.hold])
    assert not block.is_free  # the letter, and the receiver
    del parts
    assert not block.is_free
    receiver.release([theirs.hold])
    assert block.is_free
    assert house.lend(sender).block == own.block


def test_ahead_a_second_block_is_made_and_no_third(house: House) -> None:
    sender = house.instance("sender")
    first = house.lend(sender)
    (second,) = house.buffers.allocate(sender, MEBIBYTE, ahead=True)
    assert house.buffers.allocate(sender, MEBIBYTE, ahead=True) == []
    sender.release([first.hold])
    (again,) = house.buffers.allocate(sender, MEBIBYTE, ahead=True)
    assert (again.block, len(sender.blocks)) == (first.block, 2)
    assert second.block != first.block


def test_ahead_nothing_is_lent_to_an_instance_that_has_used_half_its_limit(house: House) -> None:
    sender = house.instance("sender", 4 * MEBIBYTE)
    held = [house.lend(sender), house.lend(sender)]
    assert house.buffers.allocate(sender, 512 * 1024, ahead=True) == []
    sender.release([each.hold for each in held])
    assert house.buffers.allocate(sender, MEBIBYTE, ahead=True) == []
    assert len(house.buffers.allocate(sender, MEBIBYTE)) == 2


def test_queued_delivery_keeps_its_block_in_use(house: House) -> None:
    sender = house.instance("sender")
    own = house.lend(sender)
    letter = sender.take([Attachment(5, own.hold)])
    sender.release([own.hold])
    assert house.lend(sender).block != own.block
    assert letter[0].lease is not None
    assert letter[0].lease.block.number == own.block


def test_ended_instance_holds_no_blocks(house: House) -> None:
    sender, receiver = house.instance("sender"), house.instance("receiver")
    own = house.lend(sender)
    parts = sender.take([Attachment(5, own.hold)])
    receiver.give(parts)
    sender.close()
    del parts
    (block,) = sender.blocks
    house.buffers.sweep()
    assert not block.is_free
    assert sender.blocks
    receiver.close()
    receiver.give(())  # what it is sent after its end it does not keep
    house.buffers.sweep()
    assert not sender.blocks


def test_block_delivered_to_a_closed_account_is_not_held(house: House) -> None:
    sender, receiver = house.instance("sender"), house.instance("receiver")
    own = house.lend(sender)
    receiver.close()
    receiver.give(sender.take([Attachment(5, own.hold)]))
    sender.release([own.hold])
    assert sender.blocks[0].is_free


def test_forwarding_a_buffer_allocates_no_block(house: House) -> None:
    first, second, third = map(house.instance, ("first", "second", "third"))
    own = house.lend(first)
    (at_second,) = second.give(first.take([Attachment(9, own.hold)]))
    (at_third,) = third.give(second.take([at_second]))
    first.close()
    second.close()
    assert third.block(at_third.block).number == own.block
    assert not second.blocks
    assert not first.blocks[0].is_free


@pytest.mark.parametrize("level", ["in memory", "as bytes"])
def test_attachments_that_the_sender_does_not_hold_are_refused(house: House, level: str) -> None:
    """Made-up holds, another's, one that was given back, more than there is, less than nothing."""
    sender, other = house.instance("sender"), house.instance("other", in_memory=level == "in memory")
    own = house.lend(sender)
    given_back = house.lend(sender, 300_000)
    sender.release([given_back.hold])
    for wrong in (
        Attachment(1, 10**9),
        Attachment(1, -1),
        Attachment(1, own.hold, own.block),
        Attachment(1, 2**63 - 1),
    ):
        with pytest.raises(PermissionDenied, match="MK0417"):
            other.take([wrong])
    for wrong in (
        Attachment(block_size(MEBIBYTE) + 1, own.hold),
        Attachment(-1, own.hold),
        Attachment(1, given_back.hold),
    ):
        with pytest.raises(PermissionDenied, match="MK0417"):
            sender.take([wrong])
    with pytest.raises(PermissionDenied):
        sender.take([Attachment(1, own.hold)] * 257)
    with pytest.raises(PermissionDenied):
        other.block(own.block)
    with pytest.raises(PermissionDenied):
        other.descriptor(own.block)


def test_releasing_a_hold_twice_has_no_effect(house: House) -> None:
    sender, other = house.instance("sender"), house.instance("other")
    own = house.lend(sender)
    other.release([own.hold, -1, 10**12])
    assert not sender.blocks[0].is_free
    sender.release([own.hold, own.hold])
    assert sender.blocks[0].is_free
    again = house.lend(sender)
    sender.release([own.hold])  # the old number is nobody's
    assert again.block == own.block
    assert not sender.blocks[0].is_free


def test_only_its_owner_may_write_to_a_block(house: House) -> None:
    sender, receiver = house.instance("sender"), house.instance("receiver")
    own = house.lend(sender)
    receiver.give(sender.take([Attachment(5, own.hold)]))
    assert sender.descriptor(own.block)[1] is True
    assert receiver.descriptor(own.block)[1] is False


def test_block_cannot_be_truncated(house: House) -> None:
    """Otherwise a reader of the truncated part would be killed by SIGBUS."""
    sender = house.instance("sender")
    descriptor, _ = sender.descriptor(house.lend(sender).block)
    assert fcntl(descriptor, F_GET_SEALS) == F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL
    for size in (0, 10**9):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)


def test_confined_instance_gets_copies_as_bytes(house: House) -> None:
    sender, confined = house.instance("sender"), house.instance("confined", in_memory=False)
    own = house.lend(sender)
    sender.block(own.block).memory[:5] = b"hello"
    (copy,) = confined.give(sender.take([Attachment(5, own.hold)]))
    assert (copy.hold, copy.block, copy.data) == (0, 0, b"hello")
    (back,) = sender.give(confined.take([Attachment(999, data=b"world")]))
    assert (back.size, back.hold, back.data) == (5, 0, b"world")
    with pytest.raises(PermissionDenied):
        house.lend(confined)
    large = house.lend(sender, 17 * MEBIBYTE)
    with pytest.raises(PayloadTooLarge, match="MK0624"):
        confined.give(sender.take([Attachment(17 * MEBIBYTE, large.hold)]))


def test_blocks_in_use_are_limited_in_bytes_and_number(house: House) -> None:
    """In bytes and in number; what is free is given up for it first."""
    sender = house.instance("sender", 10 * MEBIBYTE)
    held = [house.lend(sender, 4 * MEBIBYTE) for _ in range(2)]
    for size in (4 * MEBIBYTE, 10**15, 2**63 - 1):
        with pytest.raises(PayloadTooLarge, match="MK0625"):
            house.lend(sender, size)
    sender.release([held[0].hold])
    assert house.lend(sender, 6 * MEBIBYTE).size == 6 * MEBIBYTE
    assert sender.used == 10 * MEBIBYTE
    many = house.instance("many", 0)
    for _ in range(MOST_BLOCKS):
        house.lend(many, 1)
    with pytest.raises(PayloadTooLarge, match="MK0625"):
        house.lend(many, 1)
    for size in (2**63 - 1, 2**64 - 1):
        with pytest.raises(PayloadTooLarge, match="MK0626"):
            house.lend(house.instance("vast", 0), size)
    assert house.lend(house.instance("odd"), -(2**63)).size == block_size(1)


def test_free_blocks_are_lent_several_at_once(house: House) -> None:
    sender = house.instance("sender")
    holds = [house.lend(sender).hold for _ in range(6)]
    sender.release(holds)
    lent = house.buffers.allocate(sender, MEBIBYTE)
    assert len({share.block for share in lent}) == len(lent) == 4
    assert len(sender.blocks) == 6


def test_unused_blocks_are_freed_after_a_while(house: House) -> None:
    """Instances that mapped the block are notified. The timer ends when no block is left to watch."""
    sender, receiver = house.instance("sender"), house.instance("receiver")
    own = house.lend(sender)
    (theirs,) = receiver.give(sender.take([Attachment(5, own.hold)]))
    receiver.descriptor(own.block)
    sender.descriptor(own.block)
    for _ in range(3):
        house.clock.tick()
    assert sender.blocks
    sender.release([own.hold])
    receiver.release([theirs.hold])
    house.clock.tick()
    assert sender.blocks
    house.clock.tick()
    assert not sender.blocks
    assert not house.clock.waiting
    assert house.told["sender"] == house.told["receiver"] == [BlocksFreed([own.block])]
    house.lend(sender)
    assert len(house.clock.waiting) == 1


def test_reused_block_is_not_freed(house: House) -> None:
    sender = house.instance("sender")
    own = house.lend(sender)
    for _ in range(5):
        sender.release([own.hold])
        house.clock.tick()
        own = house.lend(sender)
    assert own.block == sender.blocks[0].number
    assert len(sender.blocks) == 1


def test_memory_stays_mapped_until_its_last_view_is_gone(house: House) -> None:
    sender = house.instance("sender")
    own = house.lend(sender)
    block = sender.block(own.block)
    block.memory[:3] = b"abc"
    view = memoryview(block.memory)[:3]
    house.buffers.close()
    assert bytes(view) == b"abc"


def test_ten_thousand_buffers_leave_no_descriptors_or_mappings(house: House) -> None:
    sender, receiver = house.instance("sender"), house.instance("receiver")
    gc.collect()
    before, mappings = descriptors(), count_mappings()
    for _ in range(10_000):
        own = house.lend(sender)
        (theirs,) = receiver.give(sender.take([Attachment(5, own.hold)]))
        sender.release([own.hold])
        receiver.release([theirs.hold])
    assert len(sender.blocks) == 1
    assert not sender._leases
    assert not receiver._leases
    assert len(opened_since(before)) == 1
    assert count_mappings() <= mappings + 8  # the allocator may map some, too
