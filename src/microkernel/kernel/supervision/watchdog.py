"""Notices handlers that run past their deadline. Armed only while something is in flight: an idle kernel sleeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary, ref

from microkernel.kernel.messaging.delivery import CallDelivery, Delivery
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.instance import Instance


@dataclass(slots=True)
class _Oldest:
    """The delivery that an instance had been at for longest when the watchdog last looked, by its number (0: none), and
    when it was first seen."""

    seq: int = 0
    since: float = 0.0


class Watchdog:
    """``arm`` on any thread. On the reactor's, it reports to the owner of an instance for how long it is silent."""

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        # On the reactor's thread.
        self._oldest: WeakKeyDictionary[Instance, _Oldest] = WeakKeyDictionary()

    def arm(self, instance: Instance) -> None:
        """The instance has something to do. Called often: arms once until it is idle again."""
        limit = instance.manifest.limits.handler
        if limit and not instance.watched:
            instance.watched = True
            self._reactor.later(limit, partial(self._look, ref(instance), limit))

    def _look(self, watched: ref[Instance], limit: float) -> None:
        instance = watched()
        if instance is None:
            return  # replaced and gone meanwhile: a minute of reloads must not pile up
        judge = partial(self._judge, ref(instance), limit)
        instance.runner.drain(judge)  # a kernel that is late must not blame the plugin

    def _judge(self, watched: ref[Instance], limit: float) -> None:
        instance = watched()
        if instance is None:
            return
        mailbox = instance.mailbox
        if instance.disconnected or not instance.is_current or not mailbox.in_flight:
            instance.watched = False
            return
        oldest = mailbox.oldest_in_flight()
        at_it = self._clock.now() - self._since(instance, oldest)
        # The thread that asked it to stop waits with a deadline, except in a drain, when the mailbox is open.
        is_awaited = instance.exit_expected and mailbox.paused
        if at_it < limit or is_awaited:
            self._reactor.later(limit - at_it if at_it < limit else limit, partial(self._look, ref(instance), limit))
            return
        instance.owner.on_unresponsive(instance, at_it, _what(oldest))

    def _since(self, instance: Instance, delivery: Delivery | None) -> float:
        """Return since when it has been at its oldest delivery, at least. Deliveries are started in order, so finishing
        others does not excuse one that hangs."""
        oldest = self._oldest.setdefault(instance, _Oldest())
        if delivery is None or delivery.seq != oldest.seq:
            oldest.seq, oldest.since = delivery.seq if delivery else 0, self._clock.now()
            return instance.mailbox.progress
        return min(instance.mailbox.progress, oldest.since)


def _what(delivery: Delivery | None) -> str:
    if isinstance(delivery, CallDelivery):
        return f"{delivery.call.target}()"
    if isinstance(delivery, EventDelivery):
        return f"{delivery.subscription.handler}({delivery.topic})"
    return "a handler"
