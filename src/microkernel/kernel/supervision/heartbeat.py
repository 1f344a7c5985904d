"""Finds who is alive but silent: looks whether a process is stopped, and asks idle instances for a sign of life.

How long a handler may take is the watchdog's business. Here it is about an instance that could answer at once and does
not, because its process is stopped, or because something that is no handler occupies its main thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from weakref import ref

from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.wire.messages import Ping

MISSED = 2
"""Beats in a row without an answer that make an instance suspect."""
ASKED_EVERY = 16
"""Beats, of one whose process waits as it should, for messages, as far as can be seen. To ask wakes the instance, and
to hear it wakes us: a thousand that idle would keep a core busy. To look what it waits for costs a tenth of that."""
_TOGETHER = 20
"""In a heartbeat's time, the reactor is woken so often at most, however many there are."""

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
            self._later(ref(instance), seconds, 1)

    def heard(self, instance: Instance) -> None:
        """It answered."""
        instance.asked, instance.missed = None, 0

    def _beat(self, watched: ref[Instance], seconds: float, number: int) -> None:
        instance = watched()
        if instance is None or instance.cut or instance.record.instance is not instance:
            return
        if instance.dismissed:  # whoever asked it to stop waits for it, and it may continue: see Endings.export
            instance.asked, instance.missed = None, 0
            self._later(watched, seconds, number + 1)
        elif instance.asked is None:
            self._look(watched, seconds, number)
        else:  # a kernel that is late must not blame the plugin
            instance.runner.drain(partial(self._look, watched, seconds, number))

    def _look(self, watched: ref[Instance], seconds: float, number: int) -> None:
        instance = watched()
        if instance is None or instance.cut or instance.record.instance is not instance:
            return
        if what := self._verdict(instance, is_to_answer=number % ASKED_EVERY == 0):
            self._silent(instance, self._clock.now() - (instance.asked or 0.0), what)
            return
        self._later(watched, seconds, number + 1)

    def _later(self, watched: ref[Instance], seconds: float, number: int) -> None:
        """Beats of many come together, so that the reactor is not woken for each."""
        grid, now = seconds / _TOGETHER, self._clock.now()
        due = ceil((now + seconds) / grid) * grid
        self._reactor.later(due - now, partial(self._beat, watched, seconds, number))

    def _verdict(self, instance: Instance, *, is_to_answer: bool) -> str:
        """What it is at, if it has to be ended; else empty."""
        if instance.asked is None:
            if not instance.record.mailbox.in_flight:
                if is_to_answer or not instance.runner.is_waiting():
                    self._ask(instance)
                return ""
            if not instance.runner.is_stopped():
                return ""
            instance.asked = self._clock.now()
        instance.missed += 1
        return self._judge(instance) if instance.missed >= MISSED else ""

    def _ask(self, instance: Instance) -> None:
        instance.asked = self._clock.now()
        instance.runner.send(Ping(0))

    def _judge(self, instance: Instance) -> str:
        if instance.runner.is_stopped():
            return STOPPED
        limit = instance.manifest.limits.handler
        silent = self._clock.now() - (instance.asked or 0.0)
        is_handling = instance.record.mailbox.in_flight > 0  # then the watchdog counts
        return UNKNOWN if limit and silent >= limit and not is_handling else ""


STOPPED = "its process is stopped (SIGSTOP)"
UNKNOWN = "work that is no handler"
