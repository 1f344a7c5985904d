"""Events: from an emitter to the mailboxes of all subscribers, by the overflow policy of each subscription.

Runs on the emitter's own thread. An event is encoded once; its bytes are shared by all receivers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count, islice

from microkernel.errors import MailboxFull
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import BATCH, BlockedSend, Mailbox
from microkernel.kernel.messaging.mailbox_owner import overflow_policy
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.ports import Clock, Reactor
from microkernel.wire import native
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.messages import Attachment, Deliver, Envelope
from microkernel.wire.slots import SLOT_BYTES, size_of

_FIRST = 64
# How many deliveries may wait for room in one mailbox. A hundred workers together have as much credit.
_MAX_BLOCKED = 100_000


class EmitMode:
    """How events are delivered for an emitter.

    ``direct``: the emitter's thread cannot be killed. ``waits``: if a mailbox is full and its policy is ``block``, the
    event waits for room; else it becomes a dead letter.
    """

    __slots__ = ("direct", "waits")

    def __init__(self, *, direct: bool, waits: bool) -> None:
        self.direct = direct
        self.waits = waits


# A plugin's own thread, which may be killed at any bytecode. ``emit`` waits for room.
ON_PLUGIN_THREAD = EmitMode(direct=False, waits=True)
# A thread of the embedding program. ``emit`` waits for room.
ON_EMBEDDER_THREAD = EmitMode(direct=True, waits=True)
# The reactor's thread, for a worker. ``emit`` returns, and ``on_settled`` is called when no event waits any more.
ON_REACTOR = EmitMode(direct=True, waits=True)
# The same for a worker that has too many events waiting.
ON_REACTOR_UNWAITING = EmitMode(direct=True, waits=False)
# Any thread, for the kernel's own events.
BY_KERNEL = EmitMode(direct=False, waits=False)

# Delivers events as ``EventBus.emit`` does; None without the native core.
NATIVE_EVENTS = native.make("EventPath", EventDelivery, TopicSubscription, Mailbox, Deliver, Raw, SLOT_BYTES, BATCH)
# Receives a delivery that cannot be handled, and the reason.
DeadLetterSink = Callable[[EventDelivery, str], object]


class EventBus:
    """Delivers events to subscribers.

    ``emit`` may be called on any thread, including one that can be killed, because it changes the kernel by one C call
    for each delivery.
    """

    def __init__(self, subscriptions: TopicIndex, reactor: Reactor, clock: Clock, dead_letter: DeadLetterSink) -> None:
        self.topics = subscriptions
        self._reactor = reactor
        self._wall = clock.wall
        self._dead_letter = dead_letter
        self._ids = count(1)

    def envelope(self, source: str, topic: str, data: Raw) -> Raw:
        return Raw(encode_message(Envelope(next(self._ids), topic, source, self._wall(), data)))

    def emit(
        self,
        source: str,
        topic: str,
        data: Raw,
        shares: tuple[Attachment, ...] = (),
        *,
        mode: EmitMode = ON_PLUGIN_THREAD,
        on_settled: Callable[[], object] | None = None,
    ) -> None:
        """Deliver an event to all subscribers.

        If a mailbox is full, its policy is ``block`` and the mode waits: without ``on_settled``, wait for room after
        all others have the event. With ``on_settled``, for the reactor's thread, return; it is called once for the
        whole event.
        """
        if NATIVE_EVENTS is not None and not shares and NATIVE_EVENTS.emit(self, source, topic, data, mode, on_settled):
            return
        event = Envelope(next(self._ids), topic, source, self._wall(), data)
        envelope: Raw | None = None  # made for the first subscriber that has a mailbox
        unsettled: list[EventDelivery] = []
        for subscription in self.topics.matches[topic]:
            if subscription.once and not self._claim(subscription):
                continue
            if subscription.inline is not None:
                subscription.inline(event, shares)
                continue
            if envelope is None:
                envelope = Raw(encode_message(event))
            size = size_of(envelope, shares) if shares else len(envelope)
            delivery = EventDelivery(subscription, topic, envelope, size, shares=shares)
            if subscription.receiver.mailbox.accept(delivery, direct=mode.direct) or self._overflows(delivery, source):
                continue
            if mode.waits:
                unsettled.append(delivery)
            else:
                self.reject(delivery)
        if unsettled:
            self._wait_for_room(unsettled, source, on_settled)
        elif on_settled is not None:
            on_settled()

    def notify(self, watchers: Iterable[TopicSubscription], key: str, event: Raw) -> None:
        """Notify watchers of a key of shared data, by one event that they share. Never waits for room."""
        envelope = self.envelope("kernel", key, event)
        for watcher in watchers:
            delivery = EventDelivery(watcher, key, envelope, len(envelope))
            if not self.offer(delivery, "kernel"):
                self.reject(delivery)

    def offer(self, delivery: EventDelivery, source: str) -> bool:
        """Put a delivery into its mailbox, or apply the overflow policy. Return False if it must wait for room."""
        return delivery.subscription.receiver.mailbox.accept(delivery) or self._overflows(delivery, source)

    def _overflows(self, delivery: EventDelivery, source: str) -> bool:
        """Apply the overflow policy; a delivery for a plugin that is stopping is a dead letter. Return False if it must
        wait for room."""
        subscription = delivery.subscription
        mailbox = subscription.receiver.mailbox
        if mailbox.is_closed:
            self._dead_letter(delivery, f"{subscription.owner} is stopping")
            return True
        policy = overflow_policy(source, subscription.owner, subscription.overflow)
        if policy == "block" and len(mailbox.blocked_sends) < _MAX_BLOCKED:
            return False
        if policy in ("block", "reject"):
            self.reject(delivery)
        elif policy == "drop_oldest" and self._make_room(subscription, mailbox):
            mailbox.put(delivery)
        else:
            subscription.receiver.counts.dropped += 1
        return True

    def _claim(self, subscription: TopicSubscription) -> bool:
        try:
            subscription.once_tokens.pop()
        except IndexError:
            return False
        self._reactor.post(partial(self.topics.remove, subscription))
        return True

    def _make_room(self, subscription: TopicSubscription, mailbox: Mailbox) -> bool:
        """Remove the oldest deliveries of a subscription until there is room. Other threads may do so at the same time.

        The first deliveries that wait nearly always include one, so the others are looked at only if they do not.
        """
        for most in (_FIRST, None):
            for delivery in list(islice(mailbox.waiting, most)):
                if (
                    isinstance(delivery, EventDelivery)
                    and delivery.subscription is subscription
                    and mailbox.withdraw(delivery)
                ):
                    subscription.receiver.counts.dropped += 1
                    if mailbox.slots < mailbox.capacity:
                        return True
        return mailbox.slots < mailbox.capacity  # another thread may have made room meanwhile

    def _wait_for_room(
        self, deliveries: list[EventDelivery], source: str, on_settled: Callable[[], object] | None
    ) -> None:
        in_order = threading.Semaphore(0)
        arrived = in_order.release if on_settled is None else _Countdown(len(deliveries), on_settled)
        for delivery in deliveries:
            receive = partial(self._receive_blocked, delivery, BlockedSend(delivery, source, arrived))
            if on_settled is not None:
                receive()  # in place, so that the sender's next message finds it here
            else:
                self._reactor.post(receive)
        if on_settled is None:
            for _ in deliveries:
                in_order.acquire()

    def _receive_blocked(self, delivery: EventDelivery, blocked: BlockedSend) -> None:
        receiver = delivery.subscription.receiver
        receiver.mailbox.blocked_sends.append(blocked)
        receiver.mailbox.admit_blocked()
        if blocked in receiver.mailbox.blocked_sends:
            self._reactor.later(receiver.full_mailbox_timeout, partial(self._time_out, delivery, blocked))

    def _time_out(self, delivery: EventDelivery, blocked: BlockedSend) -> None:
        mailbox = delivery.subscription.receiver.mailbox
        if blocked in mailbox.blocked_sends:
            mailbox.blocked_sends.remove(blocked)
            self.reject(delivery)
            blocked.on_settled()
            mailbox.admit_blocked()  # calls that waited behind it

    def reject(self, delivery: EventDelivery) -> None:
        """Make a dead letter of a delivery that found the mailbox full and does not wait."""
        subscription = delivery.subscription
        size = len(subscription.receiver.mailbox)
        self._dead_letter(delivery, str(MailboxFull("MK0609", name=subscription.owner, size=size)))


class _Countdown:
    def __init__(self, left: int, done: Callable[[], object]) -> None:
        self._left = left
        self._done = done

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done()
