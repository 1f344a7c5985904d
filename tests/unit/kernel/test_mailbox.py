"""Which thread a put into a mailbox wakes, and how; batches; and overflow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from microkernel.kernel.messaging.delivery import CallDelivery, Delivery
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import BATCH, Mailbox
from microkernel.kernel.messaging.mailbox_owner import Counts
from microkernel.kernel.messaging.topic_index import TopicIndex
from microkernel.wire.codec import Raw

NOBODY: Any = SimpleNamespace()


def event() -> EventDelivery:
    return EventDelivery(NOBODY, "a", Raw(b"\x80"), 1)


@pytest.fixture
def rung() -> list[str]:
    return []


@pytest.fixture
def mailbox(rung: list[str]) -> Mailbox:
    made = Mailbox(10)
    made.connect(lambda: rung.append("bell"), lambda: rung.append("pump"))
    rung.clear()
    return made


def test_event_is_sent_directly_when_idle_and_batched_when_busy(mailbox: Mailbox, rung: list[str]) -> None:
    mailbox.put(event(), direct=True)
    (letter,) = mailbox.take(10)
    mailbox.put(event(), direct=True)
    mailbox.done(letter.seq)
    mailbox.put(event(), direct=True)
    assert rung == ["pump", "bell", "pump"]


def test_full_batch_for_a_busy_consumer_is_sent_at_once(mailbox: Mailbox, rung: list[str]) -> None:
    mailbox.put(event(), direct=True)
    mailbox.take(BATCH)
    rung.clear()
    for _ in range(2 * BATCH):
        mailbox.put(event(), direct=True)
    assert rung == [*["bell"] * (BATCH - 1), "pump"] * 2


@pytest.mark.parametrize(("capacity", "most"), [(1, 1024), (2048, 1024), (4000, 2000), (10_000, 4096)])
def test_at_most_half_of_a_mailbox_is_in_flight(capacity: int, most: int) -> None:
    mailbox = Mailbox(capacity)
    mailbox.connect(bool, bool)
    for _ in range(5000):
        mailbox.put(event())
    while mailbox.take(BATCH):
        continue
    assert (mailbox.in_flight, len(mailbox.waiting)) == (most, 5000 - most)


def test_call_is_sent_at_once_with_the_events_queued_before_it(mailbox: Mailbox, rung: list[str]) -> None:
    mailbox.put(event(), direct=True)
    mailbox.take(10)
    before, call = event(), CallDelivery(1, NOBODY, "m")
    mailbox.put(before, direct=True)
    mailbox.put(call, direct=True)
    assert rung == ["pump", "bell", "pump"]
    assert mailbox.take(10) == [before, call]


def test_indirect_put_only_sets_the_wakeup(mailbox: Mailbox, rung: list[str]) -> None:
    mailbox.put(event())
    mailbox.put(CallDelivery(1, NOBODY, "m"))
    assert rung == ["bell", "bell"]


def test_put_notifies_the_consumer_connected_after_the_append(mailbox: Mailbox, rung: list[str]) -> None:
    """A reload may replace the consumer during a put; the new consumer is notified."""

    class Queue(deque[Delivery]):
        def append(self, letter: Delivery) -> None:
            mailbox.connect(lambda: rung.append("new bell"), lambda: rung.append("new pump"))
            rung.clear()
            super().append(letter)

    mailbox.waiting = Queue()
    mailbox.put(event(), direct=True)
    assert rung == ["new pump"]
    mailbox.put(event())
    assert rung == ["new bell"]


def test_take_is_empty_if_the_only_delivery_is_withdrawn_concurrently(mailbox: Mailbox) -> None:
    """Room was made with it, by another thread, after it was counted."""

    class Queue(deque[Delivery]):
        def __getitem__(self, _index: Any) -> Any:
            self.clear()
            raise IndexError

    mailbox.waiting = Queue([event()])
    assert mailbox.take(BATCH) == []
    assert mailbox.in_flight == 0


def test_drop_oldest_uses_space_freed_concurrently() -> None:
    mailbox = Mailbox(1)
    mailbox.connect(bool, bool)
    mailbox.put(event())
    (handled,) = mailbox.take(BATCH)

    class Queue(deque[Delivery]):
        def __iter__(self) -> Iterator[Delivery]:
            mailbox.done(handled.seq)
            return iter(())

    mailbox.waiting = Queue()
    receiver = SimpleNamespace(mailbox=mailbox, counts=Counts())
    to_it: Any = SimpleNamespace(overflow="drop_oldest", owner="p", receiver=receiver)
    bus = EventBus(TopicIndex(), *[SimpleNamespace(wall=float)] * 2, print)  # type: ignore[arg-type]
    assert bus.offer(EventDelivery(to_it, "a", Raw(b"\x80"), 1), "another")
    assert (len(mailbox), receiver.counts.dropped) == (1, 0)


def test_closed_mailbox_refuses_deliveries_and_keeps_queued_ones(mailbox: Mailbox) -> None:
    assert mailbox.accept(event())
    mailbox.close()
    assert not mailbox.accept(event())
    assert mailbox.is_closed
    assert not mailbox.is_idle
    (letter,) = mailbox.take(10)
    assert not mailbox.is_idle
    mailbox.done(letter.seq)
    assert mailbox.is_idle
    mailbox.reopen()
    assert mailbox.accept(event())
