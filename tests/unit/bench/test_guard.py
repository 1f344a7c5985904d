"""The guard: which readings make a row worse, and that a disturbed machine makes none worse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import guard, isolated
from bench.guard import ROUNDS, Finding, Reading, decide, describe, investigate
from bench.isolated import Job
from bench.suite import ROWS


def quiet(*ratios: float) -> list[Reading]:
    return [Reading(ratio, comparable=True) for ratio in ratios]


@pytest.mark.parametrize(
    ("readings", "outcome"),
    [
        (quiet(2.0), "kept"),
        (quiet(2.3), "kept"),  # 15 % worse is allowed
        (quiet(2.31, 2.4, 2.31), "worse"),
        (quiet(2.9, 2.9, 2.2), "kept"),  # one good reading is enough
        (quiet(2.9, 2.9), "not judged"),  # each of three must say so
        ([*quiet(2.9, 2.9), Reading(2.9, comparable=False)], "not judged"),
        ([Reading(9.0, comparable=False)], "not judged"),
        ([Reading(2.0, comparable=False)], "kept"),
    ],
)
def test_a_row_is_worse_only_if_each_reading_on_a_quiet_machine_says_so(
    readings: Sequence[Reading], outcome: str
) -> None:
    assert decide(2.0, readings) == outcome


class Machine:
    """Gives the ratios of each row in turn, and notes the rounds of each reading."""

    def __init__(self, **ratios: Sequence[float]) -> None:
        self._ratios = {name: iter(each) for name, each in ratios.items()}
        self.quiet = True
        self.log: list[tuple[str, int]] = []

    def read(self, name: str, rounds: int) -> Reading:
        self.log.append((name, rounds))
        return Reading(next(self._ratios[name]), self.quiet)

    def investigate(self, before: dict[str, float], may_continue: Callable[[], bool] = lambda: True) -> dict[str, str]:
        found = investigate(list(self._ratios), before, self.read, may_continue)
        return {finding.name: finding.outcome for finding in found}


def test_only_a_row_that_seems_worse_is_measured_again_with_more_rounds() -> None:
    machine = Machine(good=[2.0], bad=[3.0, 3.0, 3.0])
    assert machine.investigate({"good": 2.0, "bad": 2.0}) == {"good": "kept", "bad": "worse"}
    first, second, third = ROUNDS
    assert machine.log == [("good", first), ("bad", first), ("bad", second), ("bad", third)]
    assert first < second < third


def test_a_good_reading_ends_the_measurement_of_a_row() -> None:
    machine = Machine(row=[3.0, 2.1, 9.0])
    assert machine.investigate({"row": 2.0}) == {"row": "kept"}
    assert len(machine.log) == 2


def test_the_worst_row_is_confirmed_first() -> None:
    machine = Machine(bad=[3.0, 3.0, 3.0], worse=[9.0, 9.0, 9.0])
    machine.investigate({"bad": 2.0, "worse": 2.0})
    assert [name for name, _ in machine.log] == ["bad", "worse", "worse", "worse", "bad", "bad"]


def test_nothing_is_worse_on_a_busy_machine() -> None:
    machine = Machine(row=[9.0])
    machine.quiet = False
    assert machine.investigate({"row": 2.0}) == {"row": "not judged"}
    assert len(machine.log) == 1


def test_no_reading_begins_when_time_is_up() -> None:
    machine = Machine(one=[9.0], other=[9.0])
    assert machine.investigate({"one": 2.0, "other": 2.0}, lambda: not machine.log) == {"one": "not judged"}


def test_a_row_without_a_baseline_is_measured_once_and_never_worse() -> None:
    machine = Machine(new=[9.0])
    assert machine.investigate({}) == {"new": "kept"}


@pytest.mark.parametrize(
    ("before", "readings", "line"),
    [
        (2.0, quiet(3.0, 3.2, 2.8), "✗ P5: 2.8x floor, before 2: 40% worse"),
        (2.0, quiet(2.1), "✓ P5: 2.1x floor, before 2"),
        (2.0, quiet(1.5), "✓ P5: 1.5x floor, before 2; better: ./run bench --guard --write keeps it"),
        (
            2.0,
            [Reading(9.0, comparable=False)],
            "· P5: 9x floor, before 2; not judged: the machine is busy, or is another",
        ),
        (2.0, quiet(9.0), "· P5: 9x floor, before 2; not judged: out of time"),
        (None, quiet(9.0), "· P5: 9x floor; not in the baseline"),
    ],
)
def test_a_finding_names_the_row_before_and_now(before: float | None, readings: Sequence[Reading], line: str) -> None:
    assert describe(Finding("P5", before, readings)) == line


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A guard with an empty baseline, whose measurements find this ratio, and this condition of the machine."""
    rig = SimpleNamespace(ratio=2.0, floor=3.0, quiet=True, path=tmp_path / "baseline.json")

    def run(_job: Job, _rounds: int) -> SimpleNamespace:
        return SimpleNamespace(ratio=rig.ratio, samples={"floor": [rig.floor], isolated.YARDSTICK.name: [1.0]})

    monkeypatch.setattr(guard, "BASELINE", rig.path)
    monkeypatch.setattr(guard, "available", lambda: ("pure",))
    monkeypatch.setattr(guard, "is_quiet", lambda: rig.quiet)
    monkeypatch.setattr(isolated, "run", run)
    return rig


def test_a_row_that_got_slower_than_the_written_baseline_fails(
    rig: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.write(["P5"])
    assert guard.guard(["P5"])
    rig.ratio = 2.6
    assert not guard.guard(["P5"])
    assert "✗ P5 same pure  call into a process plugin: 2.6x floor, before 2: 30% worse" in capsys.readouterr().out


def test_a_slow_reading_on_a_busy_machine_does_not_fail(rig: SimpleNamespace) -> None:
    guard.write(["P5"])
    rig.ratio, rig.quiet = 9.0, False
    assert guard.guard(["P5"])


@pytest.mark.parametrize(("floor", "kept"), [(2.5, True), (2.7, False), (3.4, False), (3.5, True)])
def test_a_slow_reading_counts_if_the_floor_is_as_it_was(floor: float, kept: bool, rig: SimpleNamespace) -> None:
    guard.write(["P5"])
    rig.ratio, rig.floor = 9.0, floor
    assert guard.guard(["P5"]) is kept


def test_a_baseline_is_not_written_on_a_busy_machine(rig: SimpleNamespace) -> None:
    rig.quiet = False
    assert not guard.write([])
    assert not rig.path.exists()


def test_writing_keeps_other_rows_columns_and_pythons(rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_python", lambda: "3.13")
    guard.write(["P5"])
    monkeypatch.setattr(guard, "_python", lambda: "3.11")
    monkeypatch.setattr(guard, "available", lambda: ("pure", "native"))
    guard.write(["P5"])
    monkeypatch.setattr(guard, "available", lambda: ("pure",))
    rig.ratio = 3.0
    guard.write(["P1", "P5"])
    ratios = {
        python: [row["ratio"] for row in rows.values()] for python, rows in json.loads(rig.path.read_text()).items()
    }
    assert ratios == {"3.13": [2.0], "3.11": [3.0, 3.0, 2.0]}


def test_the_guard_measures_rows_where_they_are_measured() -> None:
    placements = {row.id: row.placements for row in ROWS}
    assert all(placement in placements[id] for id, placement in guard.ROWS.items())
