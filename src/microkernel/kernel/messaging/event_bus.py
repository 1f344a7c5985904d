"""Events: from an emitter to the mailboxes of all who listen, each by the policy of its subscription.

Runs on the emitter's own thread. An event is encoded once; its bytes are shared by all who receive it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count, islice

from microkernel.errors import MailboxFull
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import BlockedSend, Mailbox
from microkernel.kernel.messaging.receiver import overflow_policy
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.ports import Clock, Reactor
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.messages import Attachment, Envelope
from microkernel.wire.slots import size_of

_FIRST = 64
_MOST_LATECOMERS = 100_000
"""How many letters may wait for room in one mailbox; a hundred workers at once have as much credit."""


class EmitMode:
    """How an emitter gives its events away. ``direct``: its thread cannot be killed. ``waits``: where a mailbox is full
    and its policy is ``block``, the event waits for room; else it becomes a dead letter."""

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

Bury = Callable[[EventDelivery, str], object]
"""What becomes of a letter that cannot be handled, and why."""


class EventBus:
    """``emit`` on any thread, also on one that can be killed: all it does to the kernel is one C call a letter."""

    def __init__(self, subscriptions: TopicIndex, reactor: Reactor, clock: Clock, bury: Bury) -> None:
        self.topics = subscriptions
        self._reactor = reactor
        self._wall = clock.wall
        self._bury = bury
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
        """Give an event to all who listen.

        Where a mailbox is full and its policy is ``block``, in a mode that waits: without ``on_settled`` this waits,
        after all others have the event. With it, which is for the reactor's thread, this returns, and ``on_settled`` is
        called once for the whole event.
        """
        event = Envelope(next(self._ids), topic, source, self._wall(), data)
        envelope: Raw | None = None  # made for the first who takes it from a mailbox
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
            letter = EventDelivery(subscription, topic, envelope, size, shares=shares)
            if subscription.receiver.mailbox.accept(letter, direct=mode.direct) or self._overflows(letter, source):
                continue
            if mode.waits:
                unsettled.append(letter)
            else:
                self.reject(letter)
        if unsettled:
            self._wait_for_room(unsettled, source, on_settled)
        elif on_settled is not None:
            on_settled()

    def notify(self, watchers: Iterable[TopicSubscription], key: str, news: Raw) -> None:
        """Tell watchers of a key of shared data: one event, like any other, which they share. It waits for no room."""
        envelope = self.envelope("kernel", key, news)
        for watcher in watchers:
            letter = EventDelivery(watcher, key, envelope, len(envelope))
            if not self.offer(letter, "kernel"):
                self.reject(letter)

    def offer(self, letter: EventDelivery, source: str) -> bool:
        """Put a letter into its mailbox, or do what its policy says; False if it must wait for room."""
        return letter.subscription.receiver.mailbox.accept(letter) or self._overflows(letter, source)

    def _overflows(self, letter: EventDelivery, source: str) -> bool:
        """Apply the overflow policy; a letter for a plugin that is stopping is a dead letter. Return False if it must
        wait for room."""
        subscription = letter.subscription
        mailbox = subscription.receiver.mailbox
        if mailbox.is_closed:
            self._bury(letter, f"{subscription.owner} is stopping")
            return True
        policy = overflow_policy(source, subscription.owner, subscription.overflow)
        if policy == "block" and len(mailbox.latecomers) < _MOST_LATECOMERS:
            return False
        if policy in ("block", "reject"):
            self.reject(letter)
        elif policy == "drop_oldest" and self._make_room(subscription, mailbox):
            mailbox.put(letter)
        else:
            subscription.receiver.counts.dropped += 1
        return True

    def _claim(self, subscription: TopicSubscription) -> bool:
        try:
            subscription.tickets.pop()
        except IndexError:
            return False
        self._reactor.post(partial(self.topics.remove, subscription))
        return True

    def _make_room(self, subscription: TopicSubscription, mailbox: Mailbox) -> bool:
        """Take out the oldest of its letters until there is some. Others may do so at the same time. Nearly always the
        first letters that wait include one, so that the others need not be looked at."""
        for most in (_FIRST, None):
            for letter in list(islice(mailbox.waiting, most)):
                if (
                    isinstance(letter, EventDelivery)
                    and letter.subscription is subscription
                    and mailbox.withdraw(letter)
                ):
                    subscription.receiver.counts.dropped += 1
                    if mailbox.places < mailbox.capacity:
                        return True
        return mailbox.places < mailbox.capacity  # some may have come meanwhile

    def _wait_for_room(
        self, letters: list[EventDelivery], source: str, on_settled: Callable[[], object] | None
    ) -> None:
        in_order = threading.Semaphore(0)
        arrived = in_order.release if on_settled is None else _Countdown(len(letters), on_settled)
        for letter in letters:
            receive = partial(self._receive_latecomer, letter, BlockedSend(letter, source, arrived))
            if on_settled is not None:
                receive()  # now: what its sender sends next must find it here
            else:
                self._reactor.post(receive)
        if on_settled is None:
            for _ in letters:
                in_order.acquire()

    def _receive_latecomer(self, letter: EventDelivery, latecomer: BlockedSend) -> None:
        receiver = letter.subscription.receiver
        receiver.mailbox.latecomers.append(latecomer)
        receiver.mailbox.admit_latecomers()
        if latecomer in receiver.mailbox.latecomers:
            self._reactor.later(receiver.full_mailbox_timeout, partial(self._send_away, letter, latecomer))

    def _send_away(self, letter: EventDelivery, latecomer: BlockedSend) -> None:
        mailbox = letter.subscription.receiver.mailbox
        if latecomer in mailbox.latecomers:
            mailbox.latecomers.remove(latecomer)
            self.reject(letter)
            latecomer.settled()
            mailbox.admit_latecomers()  # calls that waited behind it

    def reject(self, letter: EventDelivery) -> None:
        """There is no room for it, and it does not wait for any."""
        subscription = letter.subscription
        size = len(subscription.receiver.mailbox)
        self._bury(letter, str(MailboxFull("MK0609", name=subscription.owner, size=size)))


class _Countdown:
    def __init__(self, left: int, done: Callable[[], object]) -> None:
        self._left = left
        self._done = done

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done()
