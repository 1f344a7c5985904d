"""An event that waits in a mailbox, for one subscription."""

from __future__ import annotations

from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.topic_index import TopicSubscription
from microkernel.kernel.ports import Runner
from microkernel.wire.codec import Raw
from microkernel.wire.messages import Attachment, Deliver


class EventDelivery(Delivery):
    """An event for one subscription. ``envelope`` is shared by all deliveries of the event.

    ``reply_to`` is the router's number of the ask that waits for the handler's value, 0 for none. ``delivery`` counts
    from 1 how often the event was given to a handler.
    """

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
