"""Who is restarted with whom."""

from __future__ import annotations

import pytest

from microkernel.kernel.groups import companions
from microkernel.kernel.manifest import Group

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
def test_companions(strategy: str, name: str, expected: list[str]) -> None:
    assert companions([Group(strategy, TRIO)], name) == expected  # type: ignore[arg-type]


def test_of_two_groups_each_once() -> None:
    groups = [Group("one_for_all", ("a", "b")), Group("one_for_all", ("b", "a", "c"))]
    assert companions(groups, "a") == ["b", "c"]
