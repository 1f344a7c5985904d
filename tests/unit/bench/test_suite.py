"""The rows themselves, without measuring them, and what is beside them."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

import bench
from bench.rows import Row
from bench.soak import Bound
from bench.suite import ROWS, chosen


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_target_is_against_somebody_who_is_measured(row: Row) -> None:
    assert {target.against for target in row.targets} - {""} <= set(row.contenders)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_target_holds_where_the_row_is_measured(row: Row) -> None:
    assert all(set(target.placements) <= set(row.placements) for target in row.targets)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_a_target_wherever_it_is_measured(row: Row) -> None:
    measured = [(placement, column) for placement in row.placements for column in row.columns]
    assert [each for each in measured if not any(target.holds_in(*each) for target in row.targets)] == []


def test_rows_of_one_id_have_names_of_their_own() -> None:
    assert Counter((row.id, row.name) for row in ROWS).most_common(1)[0][1] == 1


def test_each_reason_for_a_miss_belongs_to_a_row() -> None:
    keys = {key for row in ROWS for key in (row.id, row.name, *(f"{row.id} {place}" for place in row.placements))}
    reasons = tomllib.loads((Path(bench.__file__).parent / "why.toml").read_text(encoding="utf-8"))
    assert {key.removesuffix(" native") for key in reasons} <= keys


def test_rows_are_chosen_by_their_ids() -> None:
    assert {row.id for row in chosen(["P5", "P8"])} == {"P5", "P8"}
    with pytest.raises(KeyError):
        chosen(["P99"])


@pytest.mark.parametrize(
    ("first", "last", "holds"), [(1_000, 1_100, True), (1_000, 1_101, False), (10, 18, True), (10, 2, True)]
)
def test_what_may_grow_has_a_bound(first: int, last: int, holds: bool) -> None:
    assert Bound(0.10, 8).holds(first, last) is holds
