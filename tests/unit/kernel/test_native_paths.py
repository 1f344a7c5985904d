"""The native core's calls and events against the Python code: the same tables and frames, or nothing."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from microkernel.embedder.calls import NATIVE_CALLS
from microkernel.kernel.messaging import event_bus
from microkernel.kernel.messaging.delivery import CallDelivery
from microkernel.kernel.messaging.event_bus import BY_KERNEL, NATIVE_EVENTS, ON_EMBEDDER_THREAD, ON_REACTOR, EventBus
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.mailbox_owner import Counts
from microkernel.kernel.messaging.quota import PendingTable
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.routing.call_table import COLLECTED, CallTable
from microkernel.sdk.request_context import RequestContext, current
from microkernel.wire import codec
from microkernel.wire.codec import Raw
from microkernel.wire.messages import Deliver, Invoke
from microkernel.wire.session import pack

pytestmark = pytest.mark.skipif(NATIVE_CALLS is None or NATIVE_EVENTS is None, reason="the native core is not used")
METHODS = ("m", "m" * 31, "m" * 32, "m" * 200)


class Callee:
    """A record, an instance and a channel, as far as a call needs them."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.calls = CallTable(None, None)  # type: ignore[arg-type]
        self.pumps = self.activities = self.released = 0
        self.lane: Any = SimpleNamespace(index=3, answer=len, release=self._release)
        self.lanes = [self.lane]
        self.channel = SimpleNamespace(
            _pumping=threading.Lock(), _control=deque(), _down=SimpleNamespace(unsent=deque(), closed=False),
            _down_socket=self.ours, _pump_again=False, pump=self._pump,
        )  # fmt: skip
        self.mailbox = Mailbox(100)
        self.runner = SimpleNamespace(
            native_channel=self.channel, lane=lambda: self.lanes.pop() if self.lanes else None
        )
        self.instance = SimpleNamespace(
            runner=self.runner, disconnected=False, watched=False, owner=SimpleNamespace(on_activity=self._active)
        )
        self.mailbox.connect(int, int, self.instance)
        self.record: Any = SimpleNamespace(
            name="p", state="active", methods=dict.fromkeys(METHODS), instance=self.instance, mailbox=self.mailbox,
            incoming=PendingTable(), counts=Counts(),
        )  # fmt: skip
        self.core = SimpleNamespace(registry=SimpleNamespace(find={"p": self.record}.get), calls=self.calls)

    def _pump(self) -> None:
        self.pumps += 1

    def _active(self, instance: Any) -> None:
        self.activities += 1

    def _release(self) -> None:
        self.released += 1

    def call(self, target: str = "p.m", timeout: Any = 5.0, *args: Any, **kwargs: Any) -> Any:
        return NATIVE_CALLS.send(self.core, target, timeout, args, kwargs)

    def is_untouched(self) -> bool:
        tables = (self.calls.pending, self.record.incoming, self.mailbox._flight, self.mailbox.waiting)
        return not any(tables) and self.record.counts.calls == 0 and not self.channel._pumping.locked()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def callee() -> Iterator[Callee]:
    made = Callee()
    yield made
    made.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, "two"), {}), ((), {"a": None}), ((b"x" * 7000,), {"b": 2})]
)
def test_a_call_is_sent_as_python_does(callee: Callee, method: str, args: Any, kwargs: Any) -> None:
    call, id, lane = callee.call(f"p.{method}", 7, *args, **kwargs)
    assert (call.target, lane) == (f"p.{method}", callee.lane)
    assert (codec.decode(call.args), codec.decode(call.kwargs)) == ([*args], kwargs)
    invoke = Invoke(id, method, call.args, call.kwargs, call.deadline, lane=3)
    assert callee.theirs.recv(65_536) == pack([invoke])
    pending, delivery = callee.calls.pending[id], callee.record.incoming[id]
    assert (pending.call, pending.target, pending.method, pending.delivery) == (call, callee.record, method, delivery)
    assert isinstance(delivery, CallDelivery)
    assert callee.mailbox._flight == {delivery.seq: delivery}
    assert (callee.record.counts.calls, callee.activities, callee.released) == (1, 1, 0)
    assert NATIVE_CALLS.collect(callee.calls, id)
    assert (pending.is_answered, delivery.is_answered) == (True, True)
    assert not any((callee.calls.pending, callee.record.incoming, callee.mailbox._flight))
    assert not NATIVE_CALLS.collect(callee.calls, id)
    assert callee.calls.complete(id, COLLECTED) is None


def test_the_deadline_around_a_call_limits_it(callee: Callee) -> None:
    token = current.set(RequestContext(1, 12.5, [], 0))
    try:
        assert callee.call("p.m", 1e300)[0].deadline == 12.5
    finally:
        current.reset(token)


def test_a_call_that_finds_the_socket_full_waits_for_the_channel(callee: Callee) -> None:
    while True:
        try:
            callee.ours.send(bytes(60_000), socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    _, id, _ = callee.call("p.m", 5.0, b"x" * 5000)
    assert [each.id for each in callee.mailbox.waiting] == [id]
    assert not callee.mailbox._flight
    assert callee.pumps == 1


UNUSUAL: dict[str, Callable[[Callee], object]] = {
    "not active": lambda c: setattr(c.record, "state", "backoff"),
    "no such method": lambda c: c.record.methods.clear(),
    "no instance": lambda c: setattr(c.record, "instance", None),
    "disconnected": lambda c: setattr(c.instance, "disconnected", True),
    "confined": lambda c: setattr(c.runner, "native_channel", None),
    "paused": lambda c: setattr(c.mailbox, "paused", True),
    "another consumer": lambda c: setattr(c.mailbox, "consumer", None),
    "control messages": lambda c: c.channel._control.append(1),
    "unsent": lambda c: c.channel._down.unsent.append(b""),
    "closed": lambda c: setattr(c.channel._down, "closed", True),
    "no lane": lambda c: c.lanes.clear(),
    "large calls": lambda c: c.record.incoming._large.note(1, 100_000),
    "full": lambda c: setattr(c.mailbox, "capacity", 0),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_anything_unusual_is_left_to_python(callee: Callee, name: str) -> None:
    UNUSUAL[name](callee)
    assert callee.call() is None
    assert callee.is_untouched()
    assert callee.lanes == [] or callee.released == 0


@pytest.mark.parametrize(
    ("target", "timeout", "value"),
    [("p", 5.0, 1), ("q.m", 5.0, 1), ("kernel.list", 5.0, 1), ("p.m", "5", 1), ("p.m", None, 1), ("p.m", 5.0, object()),
     ("p.m", 5.0, 2**70), ("p.m", 5.0, b"x" * 9000), ("p.m", 5.0, "\ud800")],
)  # fmt: skip
def test_arguments_that_are_errors_or_large_are_left_to_python(
    callee: Callee, target: str, timeout: Any, value: Any
) -> None:
    assert callee.call(target, timeout, value) is None
    assert callee.is_untouched()
    assert callee.released == 0


def test_a_channel_that_is_being_written_to_is_left_to_python(callee: Callee) -> None:
    callee.channel._pumping.acquire()
    assert callee.call() is None
    callee.channel._pumping.release()
    assert callee.is_untouched()
    assert callee.released == 1


class Interrupted(BaseException):
    """Raised in a thread by someone else."""


class Bus:
    """An event bus with receivers of every kind, and what came of its events."""

    def __init__(self) -> None:
        self.dead: list[Any] = []
        self.inline: list[Any] = []
        self.posted: list[Any] = []
        self.settled = 0
        topics = TopicIndex()
        reactor = SimpleNamespace(post=self.posted.append, later=lambda *_: int)
        clock = SimpleNamespace(wall=lambda: 12.5, now=lambda: 1.0)
        self.bus = EventBus(topics, reactor, clock, lambda d, reason: self.dead.append((d.topic, reason)))  # type: ignore[arg-type]
        self.owners = {
            overflow: SimpleNamespace(mailbox=Mailbox(3), counts=Counts(), name=overflow, full_mailbox_timeout=1.0)
            for overflow in ("block", "reject", "drop_oldest", "drop_newest", "closed")
        }
        for number, (overflow, owner) in enumerate(self.owners.items(), 1):
            policy = "block" if overflow == "closed" else overflow
            subscription = TopicSubscription(overflow, "a.*", "h", owner, number=number, overflow=policy)  # type: ignore[arg-type]
            topics.add(subscription)
        self.owners["closed"].mailbox.close()
        once = TopicSubscription("block", "once", "o", self.owners["block"], number=9, once=True)  # type: ignore[arg-type]
        topics.add(once)
        seen = TopicSubscription(
            "x", "in", "i", self.owners["block"], inline=lambda *each: self.inline.append(each[0].id)
        )  # type: ignore[arg-type]
        topics.add(seen)

    def state(self) -> Any:
        def shown(mailbox: Mailbox) -> Any:
            blocked = [mailbox.blocked_sends.popleft().delivery for _ in range(len(mailbox.blocked_sends))]
            return [[(d.topic, bytes(d.envelope), d.size) for d in each] for each in (mailbox.waiting, blocked)]

        owners = {name: (shown(owner.mailbox), owner.counts) for name, owner in self.owners.items()}
        return owners, self.dead, self.inline, self.settled, len(self.posted)

    def settle(self) -> None:
        self.settled += 1


def test_events_come_to_the_same_mailboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    def emit_all() -> Any:
        made = Bus()
        for turn in range(6):
            for topic in ("a.b", "a.c", "nobody", "in", "once", "a.b"):
                data = Raw(codec.encode({"turn": turn, "more": "x" * (9000 if turn == 4 else 10)}))
                mode = (BY_KERNEL, ON_REACTOR)[turn % 2]
                settled = made.settle if mode is ON_REACTOR else None
                made.bus.emit("someone", topic, data, mode=mode, on_settled=settled)
        return made.state()

    natively = emit_all()
    monkeypatch.setattr(event_bus, "NATIVE_EVENTS", None)
    assert natively == emit_all()


def test_an_event_wakes_its_receiver_even_if_that_raises() -> None:
    made, rings = Bus(), []

    def ring() -> None:
        rings.append(1)
        if len(rings) == 2:
            raise Interrupted

    made.owners["block"].mailbox.bell = made.owners["block"].mailbox.pump = ring
    made.bus.emit("x", "a.b", Raw(b"\x80"), mode=BY_KERNEL, on_settled=int)  # fills the cache of topics
    with pytest.raises(Interrupted):
        made.bus.emit("x", "a.b", Raw(b"\x80"), mode=ON_EMBEDDER_THREAD)
    assert len(rings) == 3
    assert len(made.owners["block"].mailbox.waiting) == 2


def test_deliveries_become_the_same_messages() -> None:
    made, unwanted = Bus(), []
    subscription = TopicSubscription("block", "a.b", "h", made.owners["block"], number=4)  # type: ignore[arg-type]
    gone = TopicSubscription("block", "a.b", "h", made.owners["block"], number=0)  # type: ignore[arg-type]
    deliveries = [EventDelivery(each, "a.b", Raw(b"\x80"), 1, 7, 2.5, 3) for each in (subscription, gone, subscription)]
    instance = SimpleNamespace(runner=None, prepare=lambda delivery, message: unwanted.append((delivery, message)))
    first, _, last = deliveries
    assert NATIVE_EVENTS.messages(deliveries, instance) == [
        Deliver(each.seq, 4, 3, each.envelope, 7, 2.5) for each in (first, last)
    ]
    assert unwanted == [(deliveries[1], None)]


def test_the_same_deliveries_are_handled() -> None:
    made = Bus()
    subscription = TopicSubscription("block", "a.b", "h", made.owners["block"], number=4)  # type: ignore[arg-type]
    mailbox = Mailbox(100)
    events = [EventDelivery(subscription, "a.b", Raw(b"\x80"), 1) for _ in range(4)]
    call: Any = SimpleNamespace(seq=10**9, is_call=True)
    for each in (*events, call):
        mailbox.take_direct(each)
    seqs = [events[0].seq, events[0].seq, call.seq, 10**12, -1, events[2].seq]
    assert mailbox.handled_all(seqs) == 2
    assert list(mailbox._flight) == [events[1].seq, events[3].seq, call.seq]
