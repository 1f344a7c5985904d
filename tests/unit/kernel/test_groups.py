"""Which plugins of a group restart together, and the order in which they start."""

from __future__ import annotations

import pytest

from microkernel.kernel.config import Group
from microkernel.kernel.operations.start_order import layers, plan
from microkernel.kernel.supervision.groups import group_members, in_start_order, predecessors

TRIO = ("db", "cache", "web")


@pytest.mark.parametrize(
    ("strategy", "name", "expected"),
    [
        ("one_for_one", "db", []),
        ("one_for_all", "db", ["cache", "web"]),
        ("one_for_all", "web", ["db", "cache"]),
        ("rest_for_one", "db", ["cache", "web"]),
        ("rest_for_one", "cache", ["web"]),
        ("rest_for_one", "web", []),
        ("one_for_all", "stranger", []),
    ],
)
def test_group_members_by_restart_strategy(strategy: str, name: str, expected: list[str]) -> None:
    assert group_members([Group(strategy, TRIO)], name) == expected  # type: ignore[arg-type]


def test_member_of_two_groups_is_listed_once() -> None:
    groups = [Group("one_for_all", ("a", "b")), Group("one_for_all", ("b", "a", "c"))]
    assert group_members(groups, "a") == ["b", "c"]


def test_members_follow_those_before_them_in_every_group() -> None:
    groups = [Group("one_for_one", ("a", "b", "c")), Group("one_for_all", ("x", "b"))]
    assert predecessors(groups) == {"a": set(), "b": {"a", "x"}, "c": {"a", "b"}, "x": set()}


def test_members_are_restarted_in_the_order_of_their_group() -> None:
    groups = [Group("one_for_all", ("z", "y")), Group("rest_for_one", TRIO)]
    assert in_start_order(groups, ["web", "db", "y", "z"]) == ["z", "y", "db", "web"]


def in_order(requires: dict[str, tuple[str, ...]], after: dict[str, set[str]]) -> list[list[str]]:
    """The layers in which these start, which must also be those in which they are stopped."""
    planned = [list(layer) for layer in plan(dict.fromkeys(requires, "1"), requires, after).layers]
    assert [sorted(layer) for layer in layers(requires, after)] == planned
    return planned


def test_plugins_start_after_their_predecessors() -> None:
    requires: dict[str, tuple[str, ...]] = {"a": (), "b": (), "c": ()}
    assert in_order(requires, {"b": {"a"}}) == [["a", "c"], ["b"]]
    assert in_order(requires, {"a": {"b"}, "b": {"c"}}) == [["c"], ["b"], ["a"]]


def test_missing_predecessor_is_ignored() -> None:
    assert in_order({"a": (), "b": ()}, {"a": {"gone"}, "b": {"gone", "a"}}) == [["a"], ["b"]]


def test_requirements_win_over_an_order_that_contradicts_them() -> None:
    assert in_order({"a": ("b",), "b": ()}, {"b": {"a"}}) == [["b"], ["a"]]


def test_cyclic_group_order_is_ignored() -> None:
    assert in_order({"a": (), "b": ()}, {"a": {"b"}, "b": {"a"}}) == [["a", "b"]]
