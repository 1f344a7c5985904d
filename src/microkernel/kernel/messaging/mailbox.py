"""The bounded queue in front of a plugin. Owned by the kernel, so it outlives an instance; it can be paused.

A delivery leaves the mailbox when its handler has returned. Until then it is *in flight*, and if the instance dies it
is requeued at the front. Guarantees, also when a thread is killed at any bytecode: neither a delivery that was put nor
its wake-up is lost; a delivery that was taken is in flight; sizes are derived from the queues, never counted. Room is
counted in slots, of which a large delivery takes several.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.quota import OversizeTable
from microkernel.wire import native
from microkernel.wire.slots import SLOT_BYTES

# Batch size at which queued events are sent immediately, by the thread that puts the last of them. The reactor's thread
# may have to wait 5 ms for the interpreter's lock.
BATCH = 64
# Bounds of the number of deliveries in flight, which is half of the mailbox's capacity otherwise. Deliveries in flight
# cannot be dropped to make room for others.
IN_FLIGHT, MOST_IN_FLIGHT = 1024, 4096


class Mailbox:
    """Bounded queue of deliveries for one receiver.

    ``put`` may be called on any thread, ``take`` on the thread that feeds the instance, the rest on the reactor's.
    """

    __slots__ = (
        "__weakref__",
        "_admits",
        "_alone",
        "_flight",
        "_large",
        "_most",
        "_pops",
        "_taken",
        "bell",
        "blocked_sends",
        "capacity",
        "consumer",
        "paused",
        "progress",
        "pump",
        "waiting",
        "waiting_flag",
    )  # fmt: skip

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._admits = capacity
        self._most = most_in_flight(capacity)
        self.paused = True
        # The instance that takes from it.
        self.consumer: object = None
        # When the consumer last finished something, or was given something to do while it was idle. Monotonic seconds.
        self.progress = 0.0
        # Its first number is set after each put, for a consumer that also receives calls on direct channels.
        self.waiting_flag: memoryview | None = None
        self.bell: Callable[[], object] = _silent
        self.pump: Callable[[], object] = _silent
        # Read by others, changed only here.
        self.waiting: deque[Delivery] = deque()
        self._taken: deque[Delivery] = deque()
        self._flight: dict[int, Delivery] = {}
        self._large = OversizeTable()
        self._alone = 0
        self._pops: Iterator[Delivery] = iter(self.waiting.popleft, None)
        # Deliveries that wait for room, in order. The reactor admits them.
        self.blocked_sends = BlockedSends()

    def __len__(self) -> int:
        return len(self.waiting) + len(self._taken) + len(self._flight)

    @property
    def in_flight(self) -> int:
        return len(self._flight) + len(self._taken)

    @property
    def slots(self) -> int:
        """Slots that its deliveries take."""
        return self._large.slots(len(self))

    def accept(self, delivery: Delivery, *, direct: bool = False) -> bool:
        """Put a delivery if there is room. Return whether there was."""
        count = len(self.waiting) + len(self._taken) + len(self._flight)
        if self.blocked_sends or (self._large.slots(count) if self._large else count) >= self._admits:
            return False
        self.put(delivery, direct=direct)
        return True

    def put(self, delivery: Delivery, *, direct: bool = False) -> None:
        """Append a delivery and wake the consumer. The capacity is not checked; that is the caller's decision.

        ``direct``: this thread cannot be killed, so that it may send the delivery itself. It does so at once, unless it
        is an event for a busy consumer: then it waits until there is a batch, or the reactor sends a smaller one.
        """
        if delivery.size > SLOT_BYTES:
            self._large.note(delivery.seq, delivery.size)
        try:
            self.waiting.append(delivery)
            if (flag := self.waiting_flag) is not None:
                flag[0] = 1  # after the delivery is there: see KernelChannel.pump
            if direct and (delivery.is_call or not self._flight or len(self.waiting) % BATCH == 0):
                self.pump()  # whose it is, is asked when the delivery is there
            else:
                self.bell()
        except BaseException:
            self.bell()  # a kill between the lines above must not lose the wake-up: see Reactor.post
            raise

    def put_call(self, delivery: Delivery, source: str) -> None:
        """Put a call. It needs no room, but does not overtake events of its sender that wait for room. On the reactor's
        thread."""
        if self.blocked_sends and self.blocked_sends.has_from(source):
            self.blocked_sends.append(BlockedSend(delivery, source, _silent))
        else:
            self.put(delivery, direct=True)

    def admit_blocked(self) -> None:
        """Admit blocked sends while there is room. On the reactor's thread."""
        while self.blocked_sends and (self.blocked_sends.first.delivery.is_call or self.slots < self.capacity):
            blocked = self.blocked_sends.popleft()
            self.put(blocked.delivery, direct=True)
            blocked.on_settled()

    def set_flag(self, flag: memoryview) -> None:
        """Set the first number of ``flag`` to 1 after each put, until another consumer connects."""
        self.waiting_flag = flag

    @property
    def is_closed(self) -> bool:
        """Return whether new events are refused. Waiting deliveries stay, and blocked sends are still admitted."""
        return not self._admits

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits in it, waits for room in it, or is in flight."""
        return not (self.waiting or self.blocked_sends or self._flight or self._taken)

    def close(self) -> None:
        """Refuse new events until ``reopen``. It sets a capacity of 0, so that ``accept`` needs no other test."""
        self._admits = 0

    def reopen(self) -> None:
        self._admits = self.capacity

    def connect(self, bell: Callable[[], object], pump: Callable[[], object], consumer: object = None) -> None:
        """Let ``consumer`` take from now on: ``bell`` wakes it from any thread, ``pump`` from one that cannot be
        killed."""
        self.consumer, self.progress = consumer, time.monotonic()
        self.waiting_flag = None
        self.bell, self.pump, self.paused = bell, pump, False
        pump()

    def disconnect(self) -> None:
        """Disconnect the consumer. Later deliveries wait."""
        self.paused = True
        self.bell = self.pump = _silent
        self.consumer = self.waiting_flag = None

    def has(self, delivery: Delivery | None) -> bool:
        """Return whether a delivery waits or is in flight. It may move from the one to the other meanwhile, so they are
        tested in this order."""
        return delivery is not None and (
            delivery in list(self.waiting) or delivery in list(self._taken) or delivery.seq in self._flight
        )

    def withdraw(self, delivery: Delivery) -> bool:
        """Remove a delivery that still waits. Return False if it does not."""
        try:
            self.waiting.remove(delivery)
        except (ValueError, IndexError):  # it is taken, or the queue moved while we looked
            return False
        self._large.pop(delivery.seq, None)
        return True

    def take(self, limit: int) -> list[Delivery]:
        """Return the next deliveries, now in flight.

        Those that were in flight when an instance died come one at a time. So do all while there are large ones, which
        bounds how many bytes are on their way besides being kept here.
        """
        try:
            limit = self._allowance(min(limit, len(self.waiting)))
            self._taken.extend(islice(self._pops, limit))  # one C call: out of the one queue, into the other
        except IndexError:
            limit = 0  # other threads have emptied the queue meanwhile
        deliveries = list(self._taken)
        for delivery in deliveries:
            self._flight[delivery.seq] = delivery
        self._taken.clear()
        if deliveries and deliveries[0].redelivered:
            self._alone = deliveries[0].seq
        return deliveries

    def take_direct(self, delivery: Delivery) -> None:
        """Mark a delivery as in flight without having waited."""
        self._flight[delivery.seq] = delivery

    def _allowance(self, most: int) -> int:
        if self.paused or not most:
            return 0
        most = min(most, self._most - len(self._flight) - len(self._taken))
        if most <= 0:
            return 0
        if self.waiting[0].redelivered:
            return 0 if self._flight else 1
        if self._alone in self._flight:
            return 0
        return 1 if self._large else most

    def done(self, seq: int) -> Delivery | None:
        """Remove a delivery that is in flight, and return it; None if it was not."""
        delivery = self._flight.pop(seq, None)
        if self._large:
            self._large.pop(seq, None)
        return delivery

    def handled(self, seq: int) -> Delivery | None:
        """Remove an event that the instance reports as done; None if no such event was in flight.

        A call is done when it is answered, whatever the instance reports.
        """
        delivery = self._flight.get(seq)
        return None if delivery is None or delivery.is_call else self.done(seq)

    def handled_all(self, seqs: Sequence[int]) -> int:
        """Remove many events. Return how many were in flight."""
        flight, count = self._flight, 0
        if native.core is not None and type(seqs) is list and not self._large:
            removed: int = native.core.remove_handled(flight, seqs)
            return removed
        for seq in seqs:
            delivery = flight.get(seq)
            if delivery is not None and not delivery.is_call and flight.pop(seq, None) is not None:
                count += 1
                if self._large:
                    self._large.pop(seq, None)
        return count

    def oldest_in_flight(self) -> Delivery | None:
        """Return the delivery that was taken first of those in flight."""
        deliveries = list(self._flight.values())
        return min(deliveries, key=lambda delivery: delivery.seq) if deliveries else None

    def recover(self) -> list[Delivery]:
        """Remove and return all that is in flight, in order. Only when no instance takes any longer."""
        deliveries = {delivery.seq: delivery for delivery in (*self._taken, *self._flight.values())}
        self._taken.clear()
        self._flight.clear()
        for seq in deliveries:
            self._large.pop(seq, None)
        return [deliveries[seq] for seq in sorted(deliveries)]

    def requeue(self, deliveries: list[Delivery]) -> None:
        """Put deliveries back to the front, in order."""
        for delivery in deliveries:
            self._large.note(delivery.seq, delivery.size)
        self.waiting.extendleft(reversed(deliveries))

    def drain(self) -> list[Delivery]:
        """Remove and return all that waits, in order, followed by blocked sends. Deliveries in flight stay."""
        deliveries = []
        while self.waiting:
            deliveries.append(self.waiting.popleft())
            self._large.pop(deliveries[-1].seq, None)
        while self.blocked_sends:
            blocked = self.blocked_sends.popleft()
            deliveries.append(blocked.delivery)
            blocked.on_settled()
        return deliveries


class BlockedSend:
    """A delivery that waits for room, or behind one of the same ``source`` that does.

    ``on_settled`` is called when it is in the mailbox, or was rejected.
    """

    __slots__ = ("delivery", "on_settled", "source")

    def __init__(self, delivery: Delivery, source: str, on_settled: Callable[[], object]) -> None:
        self.delivery = delivery
        self.source = source
        self.on_settled = on_settled


class BlockedSends:
    """A queue of blocked sends. Each operation takes constant time, because senders decide how many wait.

    Changed on the reactor's thread only. Its length may be read on any.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[BlockedSend, None] = OrderedDict()
        self._sources: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, blocked: BlockedSend) -> bool:
        return blocked in self._waiting

    @property
    def first(self) -> BlockedSend:
        return next(iter(self._waiting))

    def has_from(self, source: str) -> bool:
        return self._sources[source] > 0

    def append(self, blocked: BlockedSend) -> None:
        self._waiting[blocked] = None
        self._sources[blocked.source] += 1

    def popleft(self) -> BlockedSend:
        blocked, _ = self._waiting.popitem(last=False)
        self._leave(blocked)
        return blocked

    def remove(self, blocked: BlockedSend) -> None:
        """Remove one. Raises KeyError if it does not wait."""
        del self._waiting[blocked]
        self._leave(blocked)

    def _leave(self, blocked: BlockedSend) -> None:
        self._sources[blocked.source] -= 1
        if not self._sources[blocked.source]:
            del self._sources[blocked.source]


def most_in_flight(capacity: int) -> int:
    return min(MOST_IN_FLIGHT, max(IN_FLIGHT, capacity // 2))


def _silent() -> None:
    """Does nothing, because no consumer is connected that could be woken."""
