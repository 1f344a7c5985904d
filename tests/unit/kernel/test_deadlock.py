"""Deadlock detection: callers are in a cycle only if none of them can continue."""

from __future__ import annotations

import pytest

from microkernel.kernel.routing.deadlock import find_cycle

Graph = dict[str, dict[int, list[str]]]


def chain(start: str, waits: Graph, **capacity: int) -> list[str] | None:
    return find_cycle(start, lambda name: waits.get(name, {}), lambda name: capacity.get(name, 1))


@pytest.mark.parametrize(
    ("waits", "capacity", "expected"),
    [
        ({"a": {0: ["a"]}}, {}, ["a", "a"]),
        ({"a": {0: ["b"]}, "b": {0: ["a"]}}, {}, ["a", "b", "a"]),
        ({"a": {0: ["b"]}, "b": {0: ["c"]}, "c": {0: ["b"]}}, {}, ["b", "c", "b"]),
        ({"a": {0: ["b"]}}, {}, None),
        ({"a": {0: ["b"]}, "b": {0: ["a"]}}, {"a": 2}, None),  # a has a thread left for b's call
        ({"a": {0: ["b"], 1: ["b"]}, "b": {0: ["a"]}}, {"a": 2}, ["a", "b", "a"]),
        ({"a": {0: ["b"], 1: ["c"]}, "b": {0: ["a"]}}, {"a": 2}, None),  # c answers, then a is free for b
        ({"a": {0: ["b", "c"]}, "b": {0: ["a"]}}, {}, ["a", "b", "a"]),  # an ask waits for all
    ],
)
def test_find_cycle(waits: Graph, capacity: dict[str, int], expected: list[str] | None) -> None:
    assert chain("a", waits, **capacity) == expected
