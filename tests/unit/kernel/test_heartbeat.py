"""Which plugins the heartbeat asks, how often, and when one is unresponsive. The tests call the beats directly."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from microkernel.kernel.supervision.heartbeat import ASKED_EVERY, MISSED, STOPPED, UNKNOWN, Heartbeat
from microkernel.wire.messages import Ping


class Watched:
    """An instance, its place, the clock, and the reactor in one."""

    def __init__(self) -> None:
        self.time, self.stopped, self.answers, self.asleep = 0.0, False, True, True
        self.pings = self.caught_up = 0
        self.verdicts: list[str] = []
        self.due: list[Callable[[], object]] = []
        runner = SimpleNamespace(
            is_stopped=lambda: self.stopped, is_waiting=lambda: self.asleep and not self.stopped, send=self._asked,
            drain=self._drain,
        )  # fmt: skip
        limits = SimpleNamespace(heartbeat=2.0, handler=60.0)
        instance: Any = _Instance()
        instance.__dict__.update(
            runner=runner,
            mailbox=SimpleNamespace(in_flight=0),
            is_current=True,
            owner=SimpleNamespace(on_unresponsive=lambda _instance, _seconds, what: self.verdicts.append(what)),
            manifest=SimpleNamespace(limits=limits),
            disconnected=False,
            exit_expected=False,
        )
        self.instance = instance
        reactor: Any = SimpleNamespace(later=lambda _seconds, work: self.due.append(work))
        clock: Any = SimpleNamespace(now=lambda: self.time)
        self.heartbeat = Heartbeat(reactor, clock)
        self.heartbeat.begin(self.instance)

    def beat(self, times: int = 1) -> None:
        for _ in range(times):
            self.time += 2.0
            work, self.due = self.due.pop(), []
            work()

    def _asked(self, message: object) -> None:
        assert isinstance(message, Ping)
        self.pings += 1
        if self.answers:
            self.heartbeat.heard(self.instance)

    def _drain(self, heard: Callable[[], object]) -> None:
        self.caught_up += 1
        heard()


class _Instance:
    """Can be referred to weakly."""


def test_idle_instance_is_pinged_only_once_in_many_beats() -> None:
    watched = Watched()
    watched.beat(3 * ASKED_EVERY)
    assert (watched.pings, watched.caught_up, watched.verdicts) == (3, 0, [])


def test_idle_instance_that_is_not_waiting_is_pinged_at_each_beat() -> None:
    watched = Watched()
    watched.asleep = False
    watched.beat(3)
    assert (watched.pings, watched.verdicts) == (3, [])
    watched.answers = False
    watched.beat(1 + 60 // 2)
    assert watched.verdicts == [UNKNOWN]


def test_stopped_idle_instance_is_reported_after_the_missed_beats() -> None:
    watched = Watched()
    watched.answers, watched.stopped = False, True
    watched.beat(1 + MISSED)
    assert (watched.pings, watched.verdicts) == (1, [STOPPED])


def test_instance_that_resumes_in_time_is_not_reported() -> None:
    watched = Watched()
    watched.answers, watched.stopped = False, True
    watched.beat(MISSED)
    watched.stopped = False
    watched.heartbeat.heard(watched.instance)
    watched.beat(ASKED_EVERY)
    assert watched.verdicts == []


def test_busy_instance_is_not_pinged() -> None:
    watched = Watched()
    watched.instance.mailbox.in_flight = 1
    watched.beat(2 * ASKED_EVERY)
    assert (watched.pings, watched.verdicts) == (0, [])


def test_beats_of_many_instances_share_timers() -> None:
    """A thousand that began one after the other wake the reactor as often as twenty would."""
    due: set[float] = set()
    clock: Any = SimpleNamespace(time=100.0)
    clock.now = lambda: clock.time
    reactor: Any = SimpleNamespace(later=lambda seconds, _work: due.add(round(clock.time + seconds, 6)))
    heartbeat = Heartbeat(reactor, clock)
    watched = Watched()
    for _ in range(1000):
        clock.time += 0.002
        before = clock.time
        heartbeat.begin(watched.instance)
        assert max(due) >= round(before + 2.0, 6)
    assert len(due) <= 21
