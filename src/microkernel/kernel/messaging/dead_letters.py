"""Events that no handler has handled, and why.

``DeadLetters`` creates them, on any thread, and passes them to its consumer, the journal, which keeps them in their
plugins' records and reports them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count

from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.quota import ITEM_OVERHEAD, memory_size
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec, messages
from microkernel.wire.codec import Raw
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import Attachment, Failure

MAX_TRACEBACK = 70_000
DEAD_LETTERS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was not handled, and why. ``data`` is the encoded payload, shared by all dead letters of it."""

    id: int
    plugin: str
    handler: str
    topic: str
    source: str
    time: float
    delivery: int
    reason: str
    data: bytes | Raw
    traceback: str = ""
    shares: tuple[Attachment, ...] = ()


def dead_letter_size(letter: DeadLetter) -> int:
    """Return the bytes charged for a dead letter."""
    size = len(letter.data) + sum(share.size for share in letter.shares)
    return ITEM_OVERHEAD + size + memory_size(letter.handler, letter.topic, letter.reason, letter.traceback)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new dead letter. ``reply_to``: the ask that waits for its handler, 0 for none. ``failure``: the exception of
    its handler, if it raised one."""

    letter: DeadLetter
    reply_to: int
    failure: Failure | None


class DeadLetters:
    """Creates dead letters. ``add`` may be called on any thread. The consumer is called on the reactor's, in order."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._ids = count(1)
        self._consumers: list[Callable[[Arrival], object]] = []
        # Dead letters that no consumer has handled yet, by id. Changed on any thread, each time by one C call.
        self.arriving: dict[int, DeadLetter] = {}

    def consume(self, consumer: Callable[[Arrival], object]) -> None:
        """Pass every dead letter to ``consumer``. Called before the first one is created."""
        self._consumers.append(consumer)

    def add(self, delivery: EventDelivery, reason: str, failure: Failure | None = None) -> None:
        """Turn a delivery into a dead letter. May be called on a plugin's own thread."""
        subscription = delivery.subscription
        id = next(self._ids)
        envelope = codec.decode(delivery.envelope, messages.Envelope)
        letter = DeadLetter(
            id, subscription.owner, subscription.handler, envelope.topic, envelope.source, envelope.time,
            delivery.delivery, codec.plain_text(reason), envelope.data,
            codec.plain_text(failure.traceback, MAX_TRACEBACK) if failure else "", delivery.shares,
        )  # fmt: skip
        self.arriving[id] = letter
        self._reactor.post(partial(self._arrive, Arrival(letter, delivery.reply_to, failure)))

    def _arrive(self, arrival: Arrival) -> None:
        try:
            for consumer in self._consumers:
                consumer(arrival)
        finally:
            self.arriving.pop(arrival.letter.id, None)
