"""Columns: which can be measured here, and that each row is measured in a process of its column."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from bench import columns, isolated, run
from bench.columns import Column
from bench.isolated import Job, MeasurementFailed
from bench.suite import chosen


def pretend(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """Have the kernel say that its native core is in this state."""
    native: Any = ModuleType("native")
    native.STATE = state
    monkeypatch.setattr(columns, "import_module", lambda name: native)


@pytest.mark.parametrize(
    ("state", "available"),
    [("used", ("pure", "native")), ("off", ("pure",)), ("missing", ("pure",)), ("other", ("pure",))],
)
def test_the_native_column_is_available_if_the_native_core_is_in_use(
    state: str, available: tuple[Column, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, state)
    assert columns.available() == available


def test_a_process_of_the_pure_column_has_the_native_core_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MK_PURE", "1")
    assert columns.environment("pure")["MK_PURE"] == "1"
    assert "MK_PURE" not in columns.environment("native")


def test_the_columns_of_a_row_are_measured_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "used")
    monkeypatch.setattr(run, "possible", lambda placement: True)
    assert [str(job) for job in run.jobs(chosen(["P5", "P14"]))] == [
        "P5 same pure",
        "P5 same native",
        "P5 diff pure",
        "P5 diff native",
        "P14 same pure",  # has no target in the native column
        "P14 diff pure",
    ]


def test_a_row_is_measured_in_another_process() -> None:
    (row,) = chosen(["P2"])
    result = isolated.run(Job(row, "same", "pure", guard=True), rounds=2)
    assert {name: len(samples) for name, samples in result.samples.items()} == {
        "ours": 2,
        "floor": 2,
        "a loop over a list": 2,
    }
    assert (result.column, result.skipped) == ("pure", {})


def test_a_measuring_process_without_the_core_of_its_column_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = chosen(["P2"])
    pure = columns.environment("pure")
    monkeypatch.setattr(isolated, "environment", lambda column: pure)
    with pytest.raises(MeasurementFailed, match="this process runs with the pure core"):
        isolated.run(Job(row, "same", "native", guard=True), rounds=1)
