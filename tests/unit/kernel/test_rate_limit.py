"""What is let through, and what is counted and reported instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from microkernel.errors import KernelError, PermissionDenied
from microkernel.kernel.manifest import Limits, Manifest
from microkernel.kernel.messaging.dead_letters import DeadLetters
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.ports import PluginCandidate
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.reporting.rate_limit import RateLimit
from microkernel.wire.messages import Failed, Failure, Log


class Time:
    """A clock and a reactor's timers, moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return self.at

    wall = now

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        self.timers.append((self.at + seconds, work))

    def move(self, seconds: float) -> None:
        self.at += seconds
        due, self.timers = (
            [work for at, work in self.timers if at <= self.at],
            [(at, work) for at, work in self.timers if at > self.at],
        )
        for work in due:
            work()


def test_burst_of_four_seconds_then_the_rate_per_second() -> None:
    time, reported = Time(), list[int]()
    limit = RateLimit(10, time, time.later, reported.append)
    assert [limit.take() for _ in range(50)].count(True) == 40
    assert reported == []
    time.move(1.0)
    assert reported == [10]
    assert [limit.take() for _ in range(50)].count(True) == 10
    time.move(1.0)
    assert reported == [10, 40]
    time.move(100.0)
    assert [limit.take() for _ in range(50)].count(True) == 40


def test_lines_within_the_rate_are_never_reported() -> None:
    time, reported = Time(), list[int]()
    limit = RateLimit(10, time, time.later, reported.append)
    for _ in range(1000):
        assert limit.take()
        time.move(0.1)
    assert reported == []
    assert time.timers == []


BUS: Any = None


class Plugin:
    """As much of an instance as a journal asks for, and the journal."""

    name = "p"

    def __init__(self, **limits: int) -> None:
        self.time = Time()
        manifest = Manifest("p", limits=Limits(**limits))
        self.record = PluginRecord(PluginCandidate("p", "p.py", manifest), manifest, "sandbox", Mailbox(1))
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.journal = Journal(Registry(), self.time, self.time, BUS, DeadLetters(self.time), print)  # type: ignore[arg-type]
        self.journal.announce = lambda id, _kind, _plugin, **fields: self.messages.append((id, fields))  # type: ignore[method-assign]
        self.journal.publish = lambda *_, **__: None  # type: ignore[method-assign]


def test_refusals_beyond_the_rate_are_reported_as_a_count() -> None:
    plugin = Plugin()
    error = PermissionDenied("MK0401", name="p", action="emit", what="x", line="")
    for _ in range(4000):
        plugin.journal.on_refused(plugin.record, error)
    plugin.time.move(1.0)
    assert plugin.record.counts.refused == 4000
    assert [id for id, _ in plugin.messages] == ["MK0401"] * 20 + ["MK0632"]
    assert plugin.messages[-1][1] == {"count": 3980, "reason": str(error)}


def test_lines_over_the_limit_are_counted_from_every_source() -> None:
    plugin = Plugin(lines=10)
    journal, given = plugin.journal, plugin.record
    ways: list[Callable[[], object]] = [
        partial(journal.on_log, given, Log(20, "text", 0.0)),
        partial(journal.output, given, "stdout", "text"),
        partial(journal.failed, given, Failed("load", Failure(type="E", traceback="t"))),
    ]
    for number in range(3000):
        ways[number % 3]()
    plugin.time.move(1.0)
    assert len(plugin.record.logs) == 40
    assert plugin.messages == [("MK0631", {"count": 2960, "limit": 10})]
    ways[0]()
    assert len(plugin.record.logs) == 41


def test_without_a_limit_every_line_is_kept() -> None:
    plugin = Plugin(lines=0)
    for _ in range(1900):
        plugin.journal.output(plugin.record, "stdout", "text")
    assert len(plugin.record.logs) == 1900


def test_number_of_different_tracebacks_is_limited() -> None:
    plugin = Plugin()
    for number in range(1000):
        dead: Any = type("Dead", (), {"handler": f"h{number}", "topic": "t"})
        plugin.journal._trace(plugin.record, dead, Failure(type="E", traceback="t"))
    assert len(plugin.record.logs) == len(plugin.journal._notes_of(plugin.record).traced) == 20


def test_an_error_of_the_kernel_counts_as_a_refusal() -> None:
    plugin = Plugin()
    plugin.journal.on_refused(plugin.record, KernelError("MK0601", topic="x", reason="y"))
    assert plugin.record.counts.refused == 1


@pytest.mark.parametrize("time", [-1e308, -1.0, float("-inf"), float("nan"), 1e308, float("inf")])
def test_time_of_a_log_line_is_a_valid_date(time: float) -> None:
    plugin = Plugin()
    plugin.journal.on_log(plugin.record, Log(20, "text", time))
    (line,) = plugin.record.logs
    assert 0 <= line.time <= plugin.time.wall() + 1.0
