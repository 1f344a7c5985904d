"""The picture: its panels, and the labels of its axes."""

from __future__ import annotations

from typing import Any

import pytest

from bench.plot import Bar, panels_of, ticks
from bench.report import value_text


def measured(column: str, ours: float, placement: str = "same", **peers: float) -> dict[str, Any]:
    return {
        "row": "P5", "name": "a call", "placement": placement, "column": column, "unit": "s",
        "ours": ours, "floor": 1.0, "floor_is": "a socket", "peers": peers,
    }  # fmt: skip


def test_a_kernel_with_and_without_its_native_core_has_two_bars() -> None:
    rows = [measured("pure", 3.0, pipe=2.0, zmq=4.0), measured("native", 1.2, pipe=2.1)]
    (panel,) = panels_of([*rows, measured("pure", 9.0, "diff", pipe=2.0)])
    assert panel.title == "P5  a call, on one core"
    assert panel.bars == [
        Bar(1.0, "a socket", "floor"),
        Bar(1.2, "microkernel (native)", "native"),
        Bar(2.0, "pipe", "peer"),
        Bar(3.0, "microkernel (pure)", "pure"),
        Bar(4.0, "zmq", "peer"),
    ]


def test_a_kernel_measured_in_one_column_has_one_bar() -> None:
    (panel,) = panels_of([measured("pure", 3.0, pipe=2.0)])
    assert Bar(3.0, "microkernel", "pure") in panel.bars


def test_a_row_without_peers_has_no_panel() -> None:
    assert list(panels_of([measured("pure", 3.0)])) == []


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (2.9e-6, 7.9e-2, ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms"]),
        (9.9e-6, 28e-6, ["1 µs", "2 µs", "5 µs", "10 µs", "20 µs", "50 µs", "100 µs"]),
        (300e-9, 4e-6, ["100 ns", "200 ns", "500 ns", "1 µs", "2 µs", "5 µs", "10 µs"]),
    ],
)
def test_the_axis_of_times_is_labelled_around_all_bars(low: float, high: float, labels: list[str]) -> None:
    assert [value_text(tick) for tick in ticks(low, high, "s")] == labels


def test_the_axis_of_memory_is_labelled_in_powers_of_two() -> None:
    found = ticks(284 << 10, 7 << 20, "B")
    assert [value_text(tick, "B") for tick in found] == ["256 KiB", "1 MiB", "4 MiB", "16 MiB"]
