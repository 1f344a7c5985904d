"""What waits in a mailbox: events for a handler, and calls."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, ClassVar

from microkernel.wire.codec import Raw, Struct, field
from microkernel.wire.messages import Attachment, Deliver, Invoke

if TYPE_CHECKING:
    from microkernel.kernel.messaging.topic_index import TopicSubscription
    from microkernel.kernel.ports import Runner
    from microkernel.kernel.routing.call_router import PendingCall

_numbers = count(1)


class Delivery(Struct, kw_only=True, eq=False):
    """``seq`` orders letters over all mailboxes. ``suspect``: it was in flight when an instance died. ``size``: bytes
    for which it takes room in its mailbox. ``shares``: what is attached to it, and stays as it is while it waits. A
    Struct, because one is made for each event and receiver: that is one C call."""

    seq: int = field(default_factory=_numbers.__next__)
    suspect: bool = False
    is_call: ClassVar[bool] = False

    @property
    def size(self) -> int:
        raise NotImplementedError

    @property
    def shares(self) -> tuple[Attachment, ...]:
        raise NotImplementedError

    def message(self, runner: Runner) -> Deliver | Invoke | None:
        """For the present instance, on this runner; None if it is no longer wanted."""
        raise NotImplementedError


class EventDelivery(Delivery):
    """An event for one subscription. ``envelope`` is shared by all letters of the event."""

    subscription: TopicSubscription
    topic: str
    envelope: Raw
    size: int
    reply_to: int = 0
    deadline: float = 0.0
    delivery: int = 1
    shares: tuple[Attachment, ...] = ()

    def message(self, runner: Runner) -> Deliver | None:  # noqa: ARG002 - the same for every runner
        number = self.subscription.number
        if not number:
            return None
        return Deliver(self.seq, number, self.delivery, self.envelope, self.reply_to, self.deadline, self.shares)


class CallDelivery(Delivery):
    """A call that waits for its callee. It takes no more room than a small event: what its arguments take is counted
    with the pending calls."""

    call: PendingCall
    is_call: ClassVar[bool] = True
    size: ClassVar[int] = 0

    @property
    def shares(self) -> tuple[Attachment, ...]:
        return self.call.asked.shares

    def message(self, runner: Runner) -> Invoke | None:
        call, asked = self.call, self.call.asked
        if call.answered:
            return None
        lane = call.lane.index if call.lane is not None and call.lane.owner is runner else -1
        return Invoke(call.id, call.method, asked.args, asked.kwargs, asked.deadline, asked.chain, lane, asked.shares)
