"""Detects handlers that exceed their deadline. Armed only while deliveries are in flight, so an idle kernel sleeps."""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary, ref

from microkernel.kernel.messaging.delivery import CallDelivery, Delivery
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.wire.light_dataclasses import dataclass


@dataclass(slots=True)
class _Oldest:
    """The oldest delivery in flight of an instance at the watchdog's last check, by its number (0: none), and the time
    when it was first seen."""

    seq: int = 0
    since: float = 0.0


class Watchdog:
    """Reports to the owner of an instance, on the reactor's thread, for how long a handler has been silent.

    ``arm`` may be called on any thread.
    """

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        # On the reactor's thread.
        self._oldest: WeakKeyDictionary[Instance, _Oldest] = WeakKeyDictionary()

    def arm(self, instance: Instance) -> None:
        """Watch an instance that was given work. Called often, so it arms only once until the instance is idle."""
        limit = instance.manifest.limits.handler
        if limit and not instance.watched:
            instance.watched = True
            self._reactor.later(limit, partial(self._look, ref(instance), limit))

    def _look(self, watched: ref[Instance], limit: float) -> None:
        instance = watched()
        if instance is None:
            return  # replaced meanwhile; the weak reference keeps a minute of reloads from piling up
        judge = partial(self._judge, ref(instance), limit)
        instance.runner.drain(judge)  # after the drain, because a late kernel must not blame the plugin

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
        """Return the latest time at which the instance can have started its oldest delivery.

        Deliveries are started in order, so finishing others does not excuse one that hangs.
        """
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
