"""What the kernel keeps, it keeps once, and without what came with it; what it does not bound by a copy, it counts."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from microkernel.errors import ProtocolError
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.dead_letters import DeadLetters
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.quota import PendingTable
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.routing.call_table import CallTable, PendingCall
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.routing.registration import Registrar
from microkernel.wire import messages
from microkernel.wire.codec import Raw, decode, encode
from microkernel.wire.messages import Call, Data, Emit, Exported, Expose, Message, Method, Response
from microkernel.wire.session import Session, pack

MiB = 1 << 20
CLOCK: Any = SimpleNamespace(wall=lambda: 1000.0, now=lambda: 0.0)


class Reactor:
    def __init__(self) -> None:
        self.posted: list[Callable[[], object]] = []

    def post(self, work: Callable[[], object]) -> None:
        self.posted.append(work)


@pytest.fixture
def growth() -> Iterator[Callable[[], int]]:
    first_of(Emit("t", Raw(encode(bytes(MiB)))))  # what is made once is there
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


def session() -> Session:
    opened = Session("kernel")
    opened.receive(Session("instance").hello())
    return opened


def first_of(*batch: Message) -> Message:
    """The first message of a frame, as the kernel has it."""
    received = [*session().receive_gradually(pack(batch))]
    return cast(Message, next(each for each in received if each is not None))


@pytest.mark.parametrize("size", [10, 20_000, 70_000])
@pytest.mark.parametrize("beside", [50_000, 8 * MiB])
@pytest.mark.parametrize(
    "make",
    [
        lambda data: Data(1, "set", "p.key", data),
        lambda data: Call(1, "p.method", args=data),
        lambda data: Call(1, "p.method", kwargs=data),
        lambda data: Response(1, data),
        lambda data: Exported(data),
    ],
    ids=["set", "args", "kwargs", "reply", "state"],
)
def test_kept_payload_does_not_retain_its_whole_frame(
    make: Callable[[Raw], Message], beside: int, size: int, growth: Callable[[], int]
) -> None:
    message = first_of(make(Raw(encode(bytes(size)))), Emit("t", Raw(encode(bytes(beside)))))
    gc.collect()
    assert growth() < 3 * size + 25_000, message


def test_stored_value_is_a_copy_of_the_frame() -> None:
    frame = bytearray(encode(bytes(100)))
    board = DataStore(TopicIndex(), lambda *_: None, lambda _: Limits())
    board.set("p", "p.key", Raw(memoryview(frame)))
    frame[:] = bytes(len(frame))
    value = board.get("p.key")
    assert value is not None
    assert bytes(value.data) == encode(bytes(100))


@pytest.mark.parametrize("is_staged", [False, True])
def test_stored_schema_is_a_copy_of_the_frame(*, is_staged: bool) -> None:
    frame = bytearray(encode({"a": 1}))
    data: Any = None
    subscribing = Registrar(TopicIndex(), TopicIndex(), data)
    record: Any = SimpleNamespace(methods={}, instance=None)
    instance: Any = SimpleNamespace(staged=messages.Loaded([], []), name="p", manifest=SimpleNamespace(limits=Limits()))
    instance.registered = SimpleNamespace(counts={"methods": 0}, take=lambda *_: True)
    record.instance = None if is_staged else instance
    subscribing.expose(record, instance, Expose(1, Method("m", schema=Raw(memoryview(frame)), returns="int")).method)
    frame[:] = bytes(len(frame))
    (kept,) = instance.staged.methods if is_staged else record.methods.values()
    assert (bytes(kept.schema), kept.returns) == (encode({"a": 1}), "int")


class Full(list[Any]):
    """A mailbox that takes nothing."""

    is_closed = False

    def accept(self, _: EventDelivery) -> bool:
        return False


def rejecting(count: int) -> list[TopicSubscription]:
    receiver: Any = SimpleNamespace(mailbox=Full())
    return [
        TopicSubscription("w", "p.key", f"f{n}", receiver, number=n, overflow="reject") for n in range(1, count + 1)
    ]


def test_a_write_that_many_watchers_reject_is_in_memory_once(growth: Callable[[], int]) -> None:
    watchers, reactor = TopicIndex(), Reactor()
    dead_letters = DeadLetters(cast(Any, reactor))
    bus = EventBus(TopicIndex(), cast(Any, reactor), CLOCK, dead_letters.add)
    board = DataStore(watchers, bus.notify, lambda _: Limits())
    for watcher in rejecting(60):
        watchers.add(watcher)
    board.set("p", "p.key", Raw(encode(bytes(MiB))))
    assert len(dead_letters.arriving) == 60
    assert growth() < 4 * MiB  # the value, its news, and the event, which all dead letters share
    news = {"key": "p.key", "value": bytes(MiB), "revision": 1}
    assert decode(dead_letters.arriving[60].data) == news


def test_a_dead_letter_shares_the_bytes_of_its_event(growth: Callable[[], int]) -> None:
    dead_letters = DeadLetters(cast(Any, Reactor()))
    bus = EventBus(TopicIndex(), cast(Any, Reactor()), CLOCK, dead_letters.add)
    envelope = bus.envelope("p", "t", Raw(encode(bytes(MiB))))
    for watcher in rejecting(20):
        dead_letters.add(EventDelivery(watcher, "t", envelope, len(envelope)), "full")
    assert growth() < 3 * MiB


def test_call_chain_counts_towards_the_slots_of_its_call() -> None:
    target: Any = SimpleNamespace(incoming=PendingTable())
    calls = CallTable(cast(Any, None), CLOCK)

    def add(id: int, call: Call) -> int:
        before = target.incoming.slots
        calls.add(PendingCall(id, None, target, call, "m", print))
        return int(target.incoming.slots - before)

    assert add(1, Call(1, "p.m", chain=["caller", "another"])) == 1
    assert add(2, Call(1, "p.m", chain=["c" * 200] * 1000)) > 24
    assert add(3, Call(1, "p." + "m" * 100_000)) > 12


def test_names_in_a_call_chain_are_limited_in_length() -> None:
    first_of(Call(1, "p.m", chain=["c" * 256]))
    for kind in (Call(1, "p.m", chain=["c" * 257]), messages.Ask(1, "t", messages.NOTHING, 0.0, chain=["c" * 257])):
        with pytest.raises(ProtocolError, match="MK0215"):
            first_of(kind)
