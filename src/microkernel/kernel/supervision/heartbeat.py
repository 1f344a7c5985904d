"""Finds instances that are alive but silent: checks whether their process is stopped, and pings idle instances.

The watchdog limits the time of handlers. The heartbeat finds an instance that could answer immediately and does not,
because its process is stopped, or because something other than a handler occupies its main thread.
"""

from __future__ import annotations

from functools import partial
from math import ceil
from weakref import WeakKeyDictionary, ref

from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import Ping

# Beats in a row without an answer after which an instance is judged.
MISSED = 2
# Beats after which an instance is pinged although its process seems to wait for messages, as it should. A ping wakes
# the instance, and its answer the kernel, so a thousand idle instances would keep a core busy. Checking whether a
# process waits costs a tenth of that.
ASKED_EVERY = 16
# Most wake-ups of the reactor in the time of one heartbeat, regardless of the number of instances.
_TOGETHER = 20


@dataclass(slots=True)
class _Beats:
    """Heartbeat state of one instance.

    ``number`` of the present beat. ``asked``: when the unanswered ping was sent, or the process was found stopped; None
    if neither. ``missed``: beats in a row without an answer since.
    """

    number: int = 0
    asked: float | None = None
    missed: int = 0

    def answered(self) -> None:
        self.asked, self.missed = None, 0


class Heartbeat:
    """One timer per instance, every ``limits.heartbeat`` seconds, on the reactor's thread.

    It reports to the owner of an instance for how long the instance is silent, and why.
    """

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._beats: WeakKeyDictionary[Instance, _Beats] = WeakKeyDictionary()

    def begin(self, instance: Instance) -> None:
        """Watch an instance that has become active. From any thread."""
        if instance.manifest.limits.heartbeat:
            self._later(ref(instance))

    def heard(self, instance: Instance) -> None:
        """Handle the answer of an instance."""
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
        """Schedule the next beat. Beats of many instances coincide, so that the reactor is not woken for each."""
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
        """Return the reason for which an instance has to be ended; empty if there is none."""
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
