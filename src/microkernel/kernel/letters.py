"""What waits in a mailbox: events for a handler, and calls."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from microkernel.wire.codec import Raw
from microkernel.wire.messages import Deliver, Invoke, Message

if TYPE_CHECKING:
    from microkernel.kernel.ports import Place
    from microkernel.kernel.router import PendingCall
    from microkernel.kernel.subscriptions import Subscription

_numbers = count(1)


class Letter:
    """``seq`` orders letters over all mailboxes. ``suspect``: it was in flight when an instance died. ``size``: bytes
    for which it takes room in its mailbox."""

    __slots__ = ("__weakref__", "seq", "size", "suspect")
    is_call = False

    def __init__(self) -> None:
        self.seq = next(_numbers)
        self.suspect = False
        self.size = 0

    def message(self, place: Place) -> Message | None:
        """For the present instance, in this place; None if it is no longer wanted."""
        raise NotImplementedError


class EventLetter(Letter):
    """An event for one subscription. ``envelope`` is shared by all letters of the event."""

    __slots__ = ("deadline", "delivery", "envelope", "reply_to", "subscription", "topic")

    def __init__(
        self, subscription: Subscription, topic: str, envelope: Raw, reply_to: int = 0, deadline: float = 0.0
    ) -> None:
        super().__init__()
        self.subscription = subscription
        self.topic = topic
        self.envelope = envelope
        self.size = len(envelope)
        self.delivery = 1
        self.reply_to = reply_to
        self.deadline = deadline

    def message(self, place: Place) -> Message | None:  # noqa: ARG002 - the same for every place
        number = self.subscription.number
        return Deliver(self.seq, number, self.delivery, self.envelope, self.reply_to, self.deadline) if number else None


class CallLetter(Letter):
    """A call that waits for its callee. It takes no more room than a small event: what its arguments take is counted
    with the pending calls."""

    __slots__ = ("call",)
    is_call = True

    def __init__(self, call: PendingCall) -> None:
        super().__init__()
        self.call = call

    def message(self, place: Place) -> Message | None:
        call, asked = self.call, self.call.asked
        if call.answered:
            return None
        lane = call.lane.index if call.lane is not None and call.lane.owner is place else -1
        return Invoke(call.id, call.method, asked.args, asked.kwargs, asked.deadline, asked.chain, lane)
