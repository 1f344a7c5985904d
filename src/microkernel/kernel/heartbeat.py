"""Finds who is alive but silent: asks idle instances for a sign of life, and looks whether a busy one is stopped.

How long a handler may take is the watchdog's business. Here it is about an instance that could answer at once and does
not, because its process is stopped, or because something that is no handler occupies its main thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import ref

from microkernel.kernel.instance import Instance
from microkernel.kernel.ports import Clock, Reactor
from microkernel.wire.messages import Ping

MISSED = 2
"""Beats in a row without an answer that make an instance suspect."""

Silent = Callable[[Instance, float, str], object]


class Heartbeat:
    """One timer an instance, every ``limits.heartbeat`` seconds, on the reactor's thread. ``silent`` gets the seconds
    and what it is at."""

    def __init__(self, reactor: Reactor, clock: Clock, silent: Silent) -> None:
        self._reactor = reactor
        self._clock = clock
        self._silent = silent

    def begin(self, instance: Instance) -> None:
        """It is active from now on."""
        if seconds := instance.manifest.limits.heartbeat:
            self._reactor.later(seconds, partial(self._beat, ref(instance), seconds))

    def heard(self, instance: Instance) -> None:
        """It answered."""
        instance.asked, instance.missed = None, 0

    def _beat(self, watched: ref[Instance], seconds: float) -> None:
        instance = watched()
        if instance is None or instance.cut or instance.record.instance is not instance:
            return
        if what := self._verdict(instance):
            self._silent(instance, self._clock.now() - (instance.asked or 0.0), what)
            return
        self._reactor.later(seconds, partial(self._beat, ref(instance), seconds))

    def _verdict(self, instance: Instance) -> str:
        """What it is at, if it has to be ended; else empty."""
        instance.place.catch_up()  # a kernel that is late must not blame the plugin
        is_busy = instance.record.mailbox.in_flight > 0
        is_suspect = instance.asked is not None or (is_busy and instance.place.is_stopped())
        if not is_suspect:
            if not is_busy:
                self._ask(instance)
            return ""
        instance.missed += 1
        if instance.asked is None:
            instance.asked = self._clock.now()
        return self._judge(instance) if instance.missed >= MISSED else ""

    def _ask(self, instance: Instance) -> None:
        instance.asked = self._clock.now()
        instance.place.send(Ping(0))

    def _judge(self, instance: Instance) -> str:
        if instance.place.is_stopped():
            return STOPPED
        limit = instance.manifest.limits.handler
        silent = self._clock.now() - (instance.asked or 0.0)
        is_handling = instance.record.mailbox.in_flight > 0  # then the watchdog counts
        return UNKNOWN if limit and silent >= limit and not is_handling else ""


STOPPED = "its process is stopped (SIGSTOP)"
UNKNOWN = "work that is no handler"
