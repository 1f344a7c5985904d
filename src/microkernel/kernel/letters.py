"""What waits in a mailbox: events for a handler, and calls."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from microkernel.wire.codec import Raw
from microkernel.wire.messages import Deliver, Invoke, Share
from microkernel.wire.places import size_of

if TYPE_CHECKING:
    from microkernel.kernel.ports import Place
    from microkernel.kernel.router import PendingCall
    from microkernel.kernel.subscriptions import Subscription

_numbers = count(1)


class Letter:
    """``seq`` orders letters over all mailboxes. ``suspect``: it was in flight when an instance died. ``size``: bytes
    for which it takes room in its mailbox. ``shares``: what is attached to it, and stays as it is while it waits."""

    __slots__ = ("__weakref__", "seq", "shares", "size", "suspect")
    is_call = False

    def __init__(self, shares: tuple[Share, ...]) -> None:
        self.seq = next(_numbers)
        self.shares = shares
        self.suspect = False
        self.size = 0

    def message(self, place: Place) -> Deliver | Invoke | None:
        """For the present instance, in this place; None if it is no longer wanted."""
        raise NotImplementedError


class EventLetter(Letter):
    """An event for one subscription. ``envelope`` is shared by all letters of the event."""

    __slots__ = ("deadline", "delivery", "envelope", "reply_to", "subscription", "topic")

    def __init__(
        self,
        subscription: Subscription,
        topic: str,
        envelope: Raw,
        reply_to: int = 0,
        deadline: float = 0.0,
        shares: tuple[Share, ...] = (),
    ) -> None:
        super().__init__(shares)
        self.subscription = subscription
        self.topic = topic
        self.envelope = envelope
        self.size = size_of(envelope, shares) if shares else len(envelope)
        self.delivery = 1
        self.reply_to = reply_to
        self.deadline = deadline

    def message(self, place: Place) -> Deliver | None:  # noqa: ARG002 - the same for every place
        number = self.subscription.number
        return Deliver(self.seq, number, self.delivery, self.envelope, self.reply_to, self.deadline) if number else None


class CallLetter(Letter):
    """A call that waits for its callee. It takes no more room than a small event: what its arguments take is counted
    with the pending calls."""

    __slots__ = ("call",)
    is_call = True

    def __init__(self, call: PendingCall) -> None:
        super().__init__(call.shares)
        self.call = call

    def message(self, place: Place) -> Invoke | None:
        call = self.call
        if call.answered:
            return None
        lane = call.lane.index if call.lane is not None and call.lane.owner is place else -1
        return Invoke(call.id, call.method, call.args, call.kwargs, call.deadline, call.chain, lane)
