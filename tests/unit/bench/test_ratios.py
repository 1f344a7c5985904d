"""From samples to verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.columns import BOTH
from bench.keeping import keep, merged
from bench.placement import Workspace, split
from bench.ratios import Result, judge, quartiles, ratios
from bench.report import as_json, target_text, value_text, why_missed
from bench.rows import Contender, Measure, Row, Target, at_most, faster, native, pure, within
from bench.table import lines, show

SAMPLES = {"ours": [2.0, 4.0, 9.0], "floor": [1.0, 2.0, 3.0], "slow": [20.0, 44.0, 45.0]}


@contextmanager
def nothing(stage: Workspace) -> Iterator[Measure]:
    yield lambda: 1.0


def row(*targets: Target, peers: tuple[Contender, ...] = ()) -> Row:
    return Row("P5", "a call", Contender("call", nothing), Contender("a socket", nothing), peers, targets)


def test_a_ratio_is_of_one_round() -> None:
    assert ratios(SAMPLES["ours"], SAMPLES["floor"]) == [2.0, 2.0, 3.0]


def test_one_round_has_no_spread() -> None:
    assert quartiles([3.0]) == (3.0, 3.0)


def test_the_spread_is_the_quartiles() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (at_most(2.0), 2.0, True),
        (at_most(1.9), 2.0, False),
        (faster(10.0, "slow"), 10.0, True),
        (faster(10.5, "slow"), 10.0, False),
        (within(4.0), 4.0, True),
        (within(3.9), 4.0, False),
    ],
)
def test_a_target_is_met_by_the_median_ratio(target: Target, value: float, met: bool) -> None:
    verdict = judge(target, SAMPLES)
    assert (verdict.value, verdict.met) == (value, met)


def test_a_target_against_a_peer_that_is_not_there_is_neither_met_nor_missed() -> None:
    assert judge(faster(2.0, "absent"), SAMPLES).met is None


def test_a_target_holds_where_it_says() -> None:
    target = at_most(1.05, "floor", "diff")
    assert (target.holds_in("diff", "pure"), target.holds_in("same", "pure")) == (True, False)
    assert at_most(1.0).holds_in("same", "native")


def test_a_target_holds_in_its_column_only() -> None:
    (slow,), (fast,) = pure(at_most(2.5)), native(at_most(1.25))
    assert (slow.holds_in("same", "pure"), slow.holds_in("same", "native")) == (True, False)
    assert (fast.holds_in("same", "pure"), fast.holds_in("same", "native")) == (False, True)


def test_a_row_is_judged_by_the_targets_of_its_column() -> None:
    measured = row(*pure(at_most(2.5)), *native(at_most(1.25)))
    found = {column: Result(measured, "same", SAMPLES, {}, column) for column in BOTH}
    assert {column: result.met for column, result in found.items()} == {"pure": True, "native": False}
    assert [target_text(verdict.target) for verdict in found["native"].verdicts] == ["≤ 1.25x floor"]


def test_the_native_column_is_compared_with_the_peers_of_its_targets() -> None:
    peers = Contender("slow", nothing), Contender("slower", nothing)
    measured = row(*pure(faster(2.0, "slower")), *native(faster(3.0, "slow")), peers=peers)
    assert measured.compared_in("pure").peers == peers
    assert measured.compared_in("native").peers == peers[:1]


def test_a_miss_of_one_column_is_not_explained_by_a_reason_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = tmp_path / "why.toml"
    reasons.write_text('P5 = "Python"\n"P5 diff native" = "wake-ups"\n')
    monkeypatch.setattr("bench.report._WHY", reasons)
    missed = row(at_most(0.1))
    assert why_missed(Result(missed, "diff", SAMPLES, {}, "pure")) == "Python"
    assert why_missed(Result(missed, "diff", SAMPLES, {}, "native")) == "wake-ups"
    assert why_missed(Result(missed, "same", SAMPLES, {}, "native")) == ""


def test_the_table_shows_both_columns_of_a_row_in_one_line() -> None:
    results = [Result(row(), "same", SAMPLES, {}, column) for column in BOTH]
    other = Result(row(), "diff", SAMPLES, {}, "pure")
    assert lines([*results, other]) == [dict(zip(BOTH, results, strict=True)), {"pure": other}]
    shown = Console(width=150, record=True, file=StringIO())
    show(results, shown)
    text = shown.export_text()
    assert text.count("2x floor") == 2
    assert "native" in text


def test_the_table_has_no_native_column_without_the_native_core() -> None:
    shown = Console(width=150, record=True, file=StringIO())
    show([Result(row(), "same", SAMPLES, {}, "pure")], shown)
    assert "native" not in shown.export_text()


@pytest.mark.parametrize(("limits", "met"), [((2.0, 5.0), True), ((2.0, 1.0), False)])
def test_a_row_is_met_when_all_its_targets_are(limits: tuple[float, ...], met: bool) -> None:
    assert Result(row(*map(at_most, limits)), "same", SAMPLES, {}).met is met


def test_the_json_has_what_the_table_says() -> None:
    peers = Contender("slow", nothing), Contender("absent", nothing)
    measured = row(at_most(2.0), faster(2.0, "absent"), peers=peers)
    found = as_json([Result(measured, "diff", SAMPLES, {"absent": "absent is not installed"})])
    expected: dict[str, Any] = {
        "row": "P5",
        "name": "a call",
        "placement": "diff",
        "ours": 4.0,
        "floor": 2.0,
        "peers": {"slow": 44.0},
        "skipped": {"absent": "absent is not installed"},
        "ratio": 2.0,
        "column": "pure",
        "target": "≤ 2x floor; ≥ 2x as fast as absent",
        "met": True,
        "why": "",
    }
    assert {key: found["rows"][0][key] for key in expected} == expected
    assert found["machine"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(46e-9, "s", "46 ns"), (1.5e-6, "s", "1.5 µs"), (2, "s", "2 s"), (3 << 20, "B", "3 MiB")],
)
def test_a_value_is_shown_in_the_unit_of_its_size(value: float, unit: Any, text: str) -> None:
    assert value_text(value, unit) == text


def test_a_target_is_shown_as_a_bound() -> None:
    targets = at_most(1.2), faster(10.0, "gRPC"), faster(0.6, "zmq"), faster(1.0, "mp.Pipe"), within(0.001)
    assert [target_text(target) for target in targets] == [
        "≤ 1.2x floor",
        "≥ 10x as fast as gRPC",
        "≥ 0.6x as fast as zmq",
        "faster than mp.Pipe",
        "≤ 1 ms",
    ]


@pytest.mark.parametrize(
    ("placement", "cores"), [("same", ({2}, {2})), ("diff", ({2}, {5})), ("free", ({2, 5}, {2, 5}))]
)
def test_a_placement_says_which_cores(placement: Any, cores: tuple[set[int], set[int]]) -> None:
    assert split(placement, {5, 2}) == cores


def test_a_later_run_of_a_day_replaces_the_rows_that_it_measured() -> None:
    def saved(id: str, placement: str, ours: float, column: str = "pure") -> dict[str, object]:
        return {"row": id, "name": "a name", "placement": placement, "column": column, "ours": ours}

    older = [saved("P5", "same", 1.0), saved("P5", "diff", 2.0)]
    newer = [saved("P5", "diff", 3.0), saved("P5", "diff", 5.0, "native"), saved("P1", "same", 4.0)]
    assert [row["ours"] for row in merged(older, newer)] == [4.0, 1.0, 3.0, 5.0]


def test_what_another_python_measured_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(python: str, **found: Any) -> dict[str, Any]:
        monkeypatch.setattr("bench.keeping.machine", lambda: f"Linux, CPython {python}")
        monkeypatch.setattr("platform.python_version_tuple", lambda: tuple(python.split(".")))
        path, kept = keep(found, tmp_path)
        files.append(path.name[10:])
        return kept

    files: list[str] = []
    on("3.11.7", scale={"one": 1})
    on("3.13.0", more=2)
    again = on("3.13.0", scale={"three": 3})
    assert files == [".json", "-python3.13.json", "-python3.13.json"]
    assert again == {"machine": "Linux, CPython 3.13.0", "rows": [], "more": 2, "scale": {"three": 3}}
    assert on("3.11.7")["scale"] == {"one": 1}
