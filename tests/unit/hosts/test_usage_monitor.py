"""Checks take turns; one that fails or is expensive affects its worker only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from microkernel.hosts.confined.usage_monitor import Check, UsageMonitor


class Clock:
    """Time that passes when a check spends it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Stopped(UsageMonitor):
    """A monitor without its thread, driven by the test."""

    def _run(self) -> None: ...


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(clock: Clock) -> UsageMonitor:
    return Stopped(_unexpected, clock)


def _unexpected(error: Exception) -> None:
    raise AssertionError from error


def look_of(clock: Clock, steps: int, seconds: float, done: Callable[[], object]) -> Callable[[], Check]:
    def check() -> Check:
        for _ in range(steps):
            clock.now += seconds
            yield
        done()

    return check


def test_each_worker_is_checked_once_a_second(clock: Clock, monitor: UsageMonitor) -> None:
    looks: list[float] = []
    monitor.add("p", look_of(clock, 1, 0.0, lambda: looks.append(clock.now)), _unexpected)
    while clock.now < 4.5:
        clock.wait(monitor.turn())
    assert looks == [1.0, 2.0, 3.0, 4.0]


def test_an_expensive_check_does_not_delay_the_check_of_another_worker(clock: Clock, monitor: UsageMonitor) -> None:
    looks: list[float] = []
    monitor.add("slow", look_of(clock, 100_000, 0.001, lambda: None), _unexpected)
    monitor.add("p", look_of(clock, 1, 0.0, lambda: looks.append(clock.now)), _unexpected)
    while clock.now < 10.0:
        clock.wait(monitor.turn())
    gaps = [after - before for before, after in pairwise(looks)]
    assert len(looks) >= 8
    assert max(gaps) < 1.1


def test_an_expensive_check_runs_less_often(clock: Clock, monitor: UsageMonitor) -> None:
    looks: list[float] = []
    monitor.add("slow", look_of(clock, 100, 0.001, lambda: looks.append(clock.now)), _unexpected)
    while clock.now < 30.0:
        clock.wait(monitor.turn())
    gaps = [after - before for before, after in pairwise(looks)]
    assert all(5.0 <= gap <= 5.2 for gap in gaps)  # 50 times its 0.1 s


def test_a_frequent_check_runs_every_second_whatever_checks_cost(clock: Clock, monitor: UsageMonitor) -> None:
    glances: list[float] = []
    monitor.add("files", look_of(clock, 4_000, 0.001, lambda: None), _unexpected)
    monitor.add("memory", look_of(clock, 50, 0.001, lambda: glances.append(clock.now)), _unexpected, frequent=True)
    while clock.now < 20.0:
        clock.wait(monitor.turn())
    gaps = [after - before for before, after in pairwise(glances)]
    assert len(glances) >= 15
    assert max(gaps) < 1.3


def test_a_check_can_be_expedited(clock: Clock, monitor: UsageMonitor) -> None:
    looks: list[float] = []
    monitor.add("slow", look_of(clock, 100, 0.001, lambda: looks.append(clock.now)), _unexpected)
    while not looks:
        clock.wait(min(monitor.turn(), 0.5))
    monitor.expedite("slow")
    monitor.expedite("one that has gone")
    while len(looks) < 2:
        clock.wait(monitor.turn())
    assert looks[1] - looks[0] < 1.0  # otherwise 5 s


def test_a_check_that_raises_reports_its_worker_and_ends_no_other_check(clock: Clock, monitor: UsageMonitor) -> None:
    looks: list[float] = []
    failures: list[Exception] = []

    def fails() -> Check:
        yield
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "not UTF-8")

    monitor.add("bad", fails, failures.append)
    monitor.add("p", look_of(clock, 1, 0.0, lambda: looks.append(clock.now)), _unexpected)
    while clock.now < 3.5:
        clock.wait(monitor.turn())
    assert len(failures) == 1
    assert len(looks) == 3


def test_a_removed_worker_is_not_checked(clock: Clock, monitor: UsageMonitor) -> None:
    monitor.add("p", look_of(clock, 1, 0.0, lambda: _unexpected(ValueError())), _unexpected)
    monitor.remove("p")
    monitor.remove("p")
    clock.now = 5.0
    assert monitor.turn() == 0.0


def test_the_thread_survives_and_reports_errors_outside_checks() -> None:
    reported, looked = threading.Event(), threading.Event()

    def report(error: Exception) -> None:
        assert isinstance(error, MemoryError)
        reported.set()

    def clock() -> float:
        if threading.current_thread().name == "microkernel-usage" and not reported.is_set():
            raise MemoryError
        return 1e9 if reported.is_set() else 0.0

    def check() -> Check:
        looked.set()
        yield

    monitor = UsageMonitor(report, clock)
    monitor.add("p", check, _unexpected)
    try:
        assert reported.wait(10)
        assert looked.wait(10)
    finally:
        monitor.close()
