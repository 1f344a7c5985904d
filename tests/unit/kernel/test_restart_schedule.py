"""When a restart is planned, run and cancelled, and which time counts in the restart budget."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from microkernel.kernel.manifest import Supervision
from microkernel.kernel.ports import Exit
from microkernel.kernel.supervision.restart_schedule import RestartSchedule

POLICY = Supervision(restart="transient", intensity=1, period=10.0, backoff=4.0, backoff_max=4.0)
CRASH = Exit("crashed", code=1)


class Record:
    """The part of a PluginRecord that the schedule uses."""

    name = "p"
    manifest = SimpleNamespace(supervision=POLICY)
    history: tuple[float, ...] = ()


class Planned:
    """A schedule, with its clock and its reactor's timers and threads."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.threads: list[str] = []
        self.restarts = 0
        reactor: Any = SimpleNamespace(later=self._later, beside=self._beside)
        clock: Any = SimpleNamespace(now=lambda: self.time)
        self.schedule = RestartSchedule(reactor, clock)

    def _later(self, seconds: float, work: Callable[[], object]) -> Callable[[], object]:
        self.timers.append((seconds, work))
        return lambda: self.timers.remove((seconds, work))

    def _beside(self, work: Callable[[], object], name: str) -> None:
        self.threads.append(name)
        work()

    def restart(self) -> None:
        self.restarts += 1


@pytest.fixture
def planned() -> Planned:
    return Planned()


@pytest.fixture
def record() -> Any:
    return Record()


def test_a_planned_restart_runs_on_a_separate_thread_after_its_delay(planned: Planned, record: Any) -> None:
    planned.schedule.plan(record, 4.0, planned.restart)
    [(delay, work)] = planned.timers
    assert (delay, planned.restarts) == (4.0, 0)
    work()
    assert (planned.threads, planned.restarts) == (["p-restart"], 1)


def test_a_cancelled_restart_does_not_run(planned: Planned, record: Any) -> None:
    planned.schedule.cancel(record)  # none is planned
    planned.schedule.plan(record, 4.0, planned.restart)
    planned.schedule.cancel(record)
    planned.schedule.cancel(record)
    assert planned.timers == []


def test_a_restart_that_runs_can_no_longer_be_cancelled(planned: Planned, record: Any) -> None:
    planned.schedule.plan(record, 4.0, planned.restart)
    planned.schedule.end_backoff(record)
    planned.schedule.cancel(record)
    assert len(planned.timers) == 1


@pytest.mark.parametrize("in_backoff", [True, False])
def test_time_in_backoff_does_not_count_in_the_period(planned: Planned, record: Any, in_backoff: bool) -> None:
    assert planned.schedule.decide(record, CRASH).count == 1
    if in_backoff:
        planned.schedule.begin_backoff(record)
    planned.time += 60.0
    if in_backoff:
        planned.schedule.end_backoff(record)
    again = planned.schedule.decide(record, CRASH)
    assert (again.count, again.budget_exhausted) == ((2, True) if in_backoff else (1, False))


def test_backoffs_add_up(planned: Planned, record: Any) -> None:
    for _ in range(3):
        planned.schedule.begin_backoff(record)
        planned.time += 60.0
        planned.schedule.end_backoff(record)
    planned.schedule.decide(record, CRASH)
    assert record.history == (100.0,)


def test_each_plugin_has_its_own_backoff(planned: Planned, record: Any) -> None:
    planned.schedule.begin_backoff(record)
    planned.time += 60.0
    planned.schedule.end_backoff(record)
    other: Any = Record()
    planned.schedule.decide(other, CRASH)
    assert other.history == (160.0,)


@pytest.mark.parametrize(
    ("exit", "restarts"),
    [(CRASH, True), (Exit("killed", signal=9), True), (Exit("killed", code=0, signal=9), True),
     (Exit("finished", code=0), False)],
)  # fmt: skip
def test_only_an_exit_with_status_0_and_without_signal_is_normal(
    planned: Planned, record: Any, exit: Exit, restarts: bool
) -> None:
    assert (planned.schedule.decide(record, exit).delay is not None) is restarts


def test_an_uncharged_exit_is_not_recorded(planned: Planned, record: Any) -> None:
    assert planned.schedule.decide(record, Exit("zygote died", uncharged=True)).delay == 4.0
    assert record.history == ()


def test_delays_are_spread_by_a_quarter(planned: Planned) -> None:
    delays = [planned.schedule.decide(Record(), CRASH).delay or 0.0 for _ in range(50)]  # type: ignore[arg-type]
    assert all(3.0 <= delay < 5.0 for delay in delays)
    assert len(set(delays)) > 1


def test_a_plugin_that_is_not_ready_is_started_after_1_s_doubling_to_60(planned: Planned, record: Any) -> None:
    waits = [planned.schedule.count_try(record, None) for _ in range(9)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    planned.schedule.reset_tries(record)
    assert planned.schedule.count_try(record, None) == 1.0


@pytest.mark.parametrize("requested", [0.1, 5, 5.5, 86_400.0])
def test_a_requested_time_is_exact(planned: Planned, record: Any, requested: float) -> None:
    assert [planned.schedule.count_try(record, requested) for _ in range(3)] == [requested] * 3


@pytest.mark.parametrize("requested", [0, -1.0, 0.01, 1e9, float("nan"), float("inf"), True, "5", [5], {}, 10**400])
def test_a_worker_that_requests_something_else_waits_as_without_a_request(
    planned: Planned, record: Any, requested: object
) -> None:
    assert planned.schedule.count_try(record, requested) == 1.0


def test_the_next_start_is_known_while_one_is_planned(planned: Planned, record: Any) -> None:
    assert planned.schedule.next_start(record) is None
    planned.schedule.plan(record, 3.0, planned.restart)
    planned.time += 1.0
    assert planned.schedule.next_start(record) == 2.0
    planned.time += 5.0
    assert planned.schedule.next_start(record) == 0.0
    planned.schedule.cancel(record)
    assert planned.schedule.next_start(record) is None
