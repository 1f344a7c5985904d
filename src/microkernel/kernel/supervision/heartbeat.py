"""Finds who is alive but silent: looks whether a process is stopped, and asks idle instances for a sign of life.

How long a handler may take is the watchdog's business. Here it is about an instance that could answer at once and does
not, because its process is stopped, or because something that is no handler occupies its main thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil
from weakref import WeakKeyDictionary, ref

from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.wire.messages import Ping

# Beats in a row without an answer after which an instance is judged.
MISSED = 2
# Beats after which an instance is asked whose process seems to wait for messages, as it should. Asking wakes the
# instance, and its answer the kernel: a thousand idle instances would keep a core busy. Looking at what a process waits
# for costs a tenth of that.
ASKED_EVERY = 16
# How often the reactor is woken at most in one heartbeat's time, however many instances there are.
_TOGETHER = 20


@dataclass(slots=True)
class _Beats:
    """``number`` of the present beat. ``asked``: since when the instance has been asked for a sign of life, None if it
    is not; ``missed``: beats in a row without one."""

    number: int = 0
    asked: float | None = None
    missed: int = 0

    def answered(self) -> None:
        self.asked, self.missed = None, 0


class Heartbeat:
    """One timer per instance, every ``limits.heartbeat`` seconds, on the reactor's thread.

    It reports to the owner of an instance for how long it is silent, and in what.
    """

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._beats: WeakKeyDictionary[Instance, _Beats] = WeakKeyDictionary()

    def begin(self, instance: Instance) -> None:
        """The instance is active from now on. From any thread."""
        if instance.manifest.limits.heartbeat:
            self._later(ref(instance))

    def heard(self, instance: Instance) -> None:
        """It answered."""
        if beats := self._beats.get(instance):
            beats.answered()

    def _watched(self, reference: ref[Instance]) -> tuple[Instance, _Beats] | None:
        instance = reference()
        if instance is None or instance.disconnected or not instance.is_current:
            return None
        return instance, self._beats[instance]

    def _beat(self, reference: ref[Instance]) -> None:
        if (watched := self._watched(reference)) is None:
            return
        instance, beats = watched
        if instance.exit_expected:  # whoever asked it to stop waits for it, and it may continue: see Terminator.export
            beats.answered()
            self._later(reference)
        elif beats.asked is None:
            self._look(reference)
        else:  # a kernel that is late must not blame the plugin
            instance.runner.drain(partial(self._look, reference))

    def _look(self, reference: ref[Instance]) -> None:
        if (watched := self._watched(reference)) is None:
            return
        instance, beats = watched
        if what := self._verdict(instance, beats):
            instance.owner.on_unresponsive(instance, self._clock.now() - (beats.asked or 0.0), what)
            return
        self._later(reference)

    def _later(self, reference: ref[Instance]) -> None:
        """Beats of many come together, so that the reactor is not woken for each."""
        instance = reference()
        if instance is None:
            return
        beats = self._beats.setdefault(instance, _Beats())
        beats.number += 1
        seconds, now = instance.manifest.limits.heartbeat, self._clock.now()
        grid = seconds / _TOGETHER
        due = ceil((now + seconds) / grid) * grid
        self._reactor.later(due - now, partial(self._beat, reference))

    def _verdict(self, instance: Instance, beats: _Beats) -> str:
        """Return what it is at, if it has to be ended; else an empty text."""
        if beats.asked is None:
            if not instance.mailbox.in_flight:
                if beats.number % ASKED_EVERY == 0 or not instance.runner.is_waiting():
                    self._ask(instance, beats)
                return ""
            if not instance.runner.is_stopped():
                return ""
            beats.asked = self._clock.now()
        beats.missed += 1
        return self._judge(instance, beats.asked) if beats.missed >= MISSED else ""

    def _ask(self, instance: Instance, beats: _Beats) -> None:
        beats.asked = self._clock.now()
        instance.runner.send(Ping(0))

    def _judge(self, instance: Instance, asked: float) -> str:
        if instance.runner.is_stopped():
            return STOPPED
        limit = instance.manifest.limits.handler
        is_handling = instance.mailbox.in_flight > 0  # then the watchdog counts
        return UNKNOWN if limit and self._clock.now() - asked >= limit and not is_handling else ""


STOPPED = "its process is stopped (SIGSTOP)"
UNKNOWN = "work that is no handler"
