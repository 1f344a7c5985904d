"""How what is kept is measured and bounded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import BoundedHistory, OversizeTable, PendingTable, Quota
from microkernel.kernel.routing.ask import AskCollector
from microkernel.sdk.binding.handlers import Handlers
from microkernel.wire.codec import Raw, decode
from microkernel.wire.messages import Response
from microkernel.wire.slots import SLOT_BYTES, slots_for

SUBSCRIPTION = SimpleNamespace(number=1)


def letter(size: int) -> EventDelivery:
    return EventDelivery(SUBSCRIPTION, "a", Raw(bytes(size)), size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "places"), [(0, 1), (1, 1), (SLOT_BYTES, 1), (SLOT_BYTES + 1, 2), (2 * SLOT_BYTES, 2), (16 << 20, 2048)]
)
def test_each_eight_kibibytes_take_one_slot(size: int, places: int) -> None:
    assert slots_for(size) == places
    large = OversizeTable()
    large.note(7, size)
    assert large.slots(1) == places


def test_size_note_without_its_delivery_is_discarded_when_the_mailbox_is_empty() -> None:
    """A kill came between the note and the letter."""
    mailbox = Mailbox(10)
    mailbox._large.note(1, 5 * SLOT_BYTES)
    assert mailbox.slots == 0
    mailbox.put(letter(1))
    assert mailbox.slots == 1


def test_large_delivery_takes_its_slots_until_it_is_done() -> None:
    mailbox = Mailbox(10)
    mailbox.connect(bool, bool)
    for size in (1, 3 * SLOT_BYTES, 8 * SLOT_BYTES):
        assert mailbox.accept(letter(size))
    assert (len(mailbox), mailbox.slots) == (3, 12)
    assert not mailbox.accept(letter(1))
    for left in (11, 8, 0):
        (taken,) = mailbox.take(64)  # large ones, and what is beside them, one by one
        assert mailbox.done(taken.seq) is taken
        assert mailbox.slots == left


def test_only_queued_and_requeued_deliveries_take_slots() -> None:
    mailbox = Mailbox(100)
    mailbox.connect(bool, bool)
    first, second, third = (letter(4 * SLOT_BYTES) for _ in range(3))
    for each in (first, second, third):
        mailbox.put(each)
    assert mailbox.withdraw(second)
    assert mailbox.slots == 8
    assert mailbox.take(64) == [first]
    assert mailbox.recover() == [first]
    assert mailbox.slots == 4
    mailbox.requeue([first])
    assert mailbox.slots == 8
    assert mailbox.drain() == [first, third]
    assert mailbox.slots == 0


def test_pending_entry_takes_slots_until_it_is_removed() -> None:
    pending: PendingTable[str] = PendingTable()
    pending.add(1, "small", 10)
    pending.add(2, "large", 3 * SLOT_BYTES)
    assert pending.slots == 4
    assert pending.remove(2) == "large"
    assert pending.remove(2) is None
    assert pending.slots == 1


def test_quota_refuses_excess_and_always_allows_a_decrease() -> None:
    budget = Quota()
    assert budget.take("a", 60, 100)
    assert not budget.take("b", 41, 100)
    assert budget.take("a", 100, 100)
    assert budget.take("a", 90, 50)  # the limit was lowered meanwhile
    assert budget.used == 90
    assert not budget.take("b", 1, 50)
    budget.release("a")
    budget.release("never there")
    assert budget.used == 0
    assert budget.take("b", 1000, 0)


def test_bounded_history_keeps_the_newest_by_number_and_bytes() -> None:
    shelf: BoundedHistory[bytes] = BoundedHistory(3, 10, len)
    for thing in (b"1", b"22", b"333", b"4444"):
        shelf.append(thing)
    assert [*shelf] == [b"22", b"333", b"4444"]
    shelf.append(b"55555")
    assert ([*shelf], shelf.used) == ([b"4444", b"55555"], 9)
    shelf.append(bytes(100))
    assert ([*shelf], shelf.used) == ([bytes(100)], 100)
    shelf.remove(bytes(100))
    assert (len(shelf), shelf.used) == (0, 0)


def test_answers_to_an_ask_are_limited_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.kernel.routing.ask._MOST_GATHERED", 10)
    replies: list[Response] = []
    gathering = AskCollector(["a", "b", "c"], replies.append)
    gathering.expect()
    for index in range(3):
        gathering.answered(
            index, Response(0, Raw(b"\xc6" + (4 * SLOT_BYTES).to_bytes(4, "big") + bytes(4 * SLOT_BYTES)))
        )
    (gathered,) = replies
    found = decode(gathered.value)
    assert [(owner, bool(value)) for owner, value, _ in found] == [("a", True), ("b", True), ("c", False)]
    assert [failure and failure[1] for _, _, failure in found] == [None, None, "MK0622"]


def test_handlers_of_one_name_are_numbered_and_a_free_number_is_taken_again() -> None:
    handlers = Handlers()

    def one() -> None: ...

    names = [handlers.add("a", one, False, "block", False).wire.name.rpartition("one")[2] for _ in range(3)]
    assert names == ["", "#2", "#3"]
    assert handlers.add("b", one, False, "block", False).wire.name.endswith("one")
    assert handlers.remove(2)
    assert not handlers.remove(2)
    again = [handlers.add("a", one, False, "block", False).wire.name.rpartition("one")[2] for _ in range(2)]
    assert again == ["#2", "#4"]
