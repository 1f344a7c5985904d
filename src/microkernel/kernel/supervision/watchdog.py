"""Notices handlers that run past their deadline. Armed only while something is in flight: an idle kernel sleeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import ref

from microkernel.kernel.messaging.delivery import CallDelivery, Delivery, EventDelivery
from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.instance import Instance

Overdue = Callable[[Instance, float, str], object]


class Watchdog:
    """``arm`` on any thread; ``overdue`` is called on the reactor's, with the seconds and what it is at."""

    def __init__(self, reactor: Reactor, clock: Clock, overdue: Overdue) -> None:
        self._reactor = reactor
        self._clock = clock
        self._overdue = overdue

    def arm(self, instance: Instance) -> None:
        """It has something to do. Called often: arms once until it is idle again."""
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
        mailbox = instance.record.mailbox
        if instance.cut or instance.record.instance is not instance or not mailbox.in_flight:
            instance.watched = False
            return
        oldest = mailbox.oldest_in_flight()
        at_it = self._clock.now() - self._since(instance, oldest)
        # Whoever asked it to stop waits for it with a deadline of its own, but for a drain.
        is_awaited = instance.dismissed and instance.record.state != "stopping"
        if at_it < limit or is_awaited:
            self._reactor.later(limit - at_it if at_it < limit else limit, partial(self._look, ref(instance), limit))
            return
        self._overdue(instance, at_it, _what(oldest))

    def _since(self, instance: Instance, oldest: Delivery | None) -> float:
        """Since when it has been at its oldest letter, at least. Letters are begun in order: that others are finished
        beside it does not excuse one that hangs."""
        if oldest is None or oldest.seq != instance.oldest:
            instance.oldest, instance.oldest_since = oldest.seq if oldest else 0, self._clock.now()
            return instance.progress
        return min(instance.progress, instance.oldest_since)


def _what(letter: Delivery | None) -> str:
    if isinstance(letter, CallDelivery):
        return f"{letter.call.target.name}.{letter.call.method}()"
    if isinstance(letter, EventDelivery):
        return f"{letter.subscription.handler}({letter.topic})"
    return "a handler"
