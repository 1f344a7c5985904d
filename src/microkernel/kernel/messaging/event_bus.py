"""Events: from an emitter to the mailboxes of all who listen, each by the policy of its subscription.

Runs on the emitter's own thread. An event is encoded once; its bytes are shared by all who receive it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import count, islice

from microkernel.errors import MailboxFull
from microkernel.kernel.messaging.delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import BlockedSend, Mailbox
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.ports import Clock, Reactor
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.messages import Attachment, Envelope
from microkernel.wire.slots import size_of

_FIRST = 64
_MOST_LATECOMERS = 100_000
"""How many letters may wait for room in one mailbox; a hundred workers at once have as much credit."""

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
        settled: Callable[[], object] | None = None,
        direct: bool = False,
        patient: bool = True,
    ) -> None:
        """Give an event to all who listen. ``direct``: this thread cannot be killed. ``patient``: it may wait for room.

        Where a mailbox is full and its policy is ``block``: without ``settled`` this waits, after all others have the
        event; with it this returns, and ``settled`` is called once for the whole event. ``direct`` with ``settled``:
        this is the reactor's thread.
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
            if subscription.receiver.mailbox.accept(letter, direct=direct) or self._overflows(letter, source):
                continue
            if patient:
                unsettled.append(letter)
            else:
                self.reject(letter)
        if unsettled:
            self._wait_for_room(unsettled, source, settled, is_reactor=direct and settled is not None)
        elif settled is not None:
            settled()

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
        policy = "reject" if source == subscription.owner else subscription.overflow
        if policy == "block" and len(mailbox.latecomers) < _MOST_LATECOMERS:
            return False
        if policy in ("block", "reject"):
            self.reject(letter)
        elif policy == "drop_oldest" and self._make_room(subscription, mailbox):
            mailbox.put(letter)
        else:
            subscription.receiver.counts.dropped += 1
        return True

    def admit_latecomers(self, mailbox: Mailbox) -> None:
        """Let in who waited for room. On the reactor's thread."""
        while mailbox.latecomers and (mailbox.latecomers.first.letter.is_call or mailbox.places < mailbox.capacity):
            latecomer = mailbox.latecomers.popleft()
            mailbox.put(latecomer.letter, direct=True)
            latecomer.settled()

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
        self, letters: list[EventDelivery], source: str, settled: Callable[[], object] | None, *, is_reactor: bool
    ) -> None:
        in_order = threading.Semaphore(0)
        arrived = in_order.release if settled is None else _Countdown(len(letters), settled)
        for letter in letters:
            receive = partial(self._receive_latecomer, letter, BlockedSend(letter, source, arrived))
            if is_reactor:
                receive()  # now: what its sender sends next must find it here
            else:
                self._reactor.post(receive)
        if settled is None:
            for _ in letters:
                in_order.acquire()

    def _receive_latecomer(self, letter: EventDelivery, latecomer: BlockedSend) -> None:
        receiver = letter.subscription.receiver
        receiver.mailbox.latecomers.append(latecomer)
        self.admit_latecomers(receiver.mailbox)
        if latecomer in receiver.mailbox.latecomers:
            self._reactor.later(receiver.full_mailbox_timeout, partial(self._send_away, letter, latecomer))

    def _send_away(self, letter: EventDelivery, latecomer: BlockedSend) -> None:
        mailbox = letter.subscription.receiver.mailbox
        if latecomer in mailbox.latecomers:
            mailbox.latecomers.remove(latecomer)
            self.reject(letter)
            latecomer.settled()
            self.admit_latecomers(mailbox)  # calls that waited behind it

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
