"""The meaning of changes: pure logic without files or a kernel."""

from __future__ import annotations

import random

import pytest

from microkernel.plugins.watcher import rules
from microkernel.plugins.watcher.reload_queue import ReloadQueue
from microkernel.plugins.watcher.rules import Plugin

HOMES = {"/p/hello.py": "hello", "/p/pack": "pack", "/p/pack/inner": "inner"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/p/hello.py", "hello"),
        ("/p/hello.pyx", ""),
        ("/p/pack/__init__.py", "pack"),
        ("/p/pack/deep/er/words.txt", "pack"),
        ("/p/pack/inner/plugin.py", "inner"),
        ("/p/package/__init__.py", ""),
        ("/p/other.py", ""),
        ("/", ""),
        ("relative.py", ""),
    ],
)
def test_whose_a_file_is(path: str, name: str) -> None:
    assert rules.owner(path, HOMES) == name


@pytest.mark.parametrize(
    "name",
    [
        "a.py~", ".a.py.swp", ".a.py.swx", "4913", "#a.py#", ".#a.py", "a.pyc", "a.tmp", "a.bak", "a.orig", "x.db-wal",
        "x.db-journal", ".goutputstream-AB12", "a.py.___jb_tmp___", ".nfs0001", "a.lock", ".DS_Store", "a.log",
    ],
)  # fmt: skip
def test_noise(name: str) -> None:
    assert rules.is_noise(name)


@pytest.mark.parametrize("name", ["a.py", "plugin.toml", "words.txt", "swp", ".env", "lock.py", "4913.py", "a"])
def test_no_noise(name: str) -> None:
    assert not rules.is_noise(name)


def test_folders_in_which_nothing_is_a_plugins() -> None:
    assert all(map(rules.is_noisy_folder, ["__pycache__", ".git", ".venv", "node_modules"]))
    assert not any(map(rules.is_noisy_folder, ["pack", "_private", "data"]))


@pytest.mark.parametrize("name", ["a.py", "__init__.py", "plugin.toml"])
def test_what_may_begin_a_plugin(name: str) -> None:
    assert rules.may_begin(name)


@pytest.mark.parametrize("name", ["_a.py", ".a.py", "a.txt", "pyproject.toml"])
def test_what_begins_none(name: str) -> None:
    assert not rules.may_begin(name)


@pytest.mark.parametrize(
    ("path", "data", "doubtful"),
    [
        ("a.py", b"", True), ("a.py", b"x = 1", True), ("a.py", b"x = 1\n", False), ("a.toml", b"x = 1", True),
        ("a.json", b"{}", False), ("a.json", b"", True),
    ],
)  # fmt: skip
def test_what_may_be_half_written(path: str, data: bytes, doubtful: bool) -> None:
    assert rules.is_doubtful(path, data) is doubtful


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("active", "reload"), ("failed", "start"), ("backoff", "start"), ("quarantined", "start"),
        ("discovered", "wait"), ("loaded", "wait"), ("starting", "wait"), ("stopping", "wait"),
        ("stopped", "report"), ("held", "leave"), ("zombie", "leave"),
    ],
)  # fmt: skip
def test_what_is_done_in_each_state(state: str, action: str) -> None:
    assert rules.action_for(state) == action


def test_every_state_of_the_kernel_has_been_thought_of() -> None:
    from typing import get_args

    from microkernel.kernel.registry.states import State

    left_alone = {state for state in get_args(State) if rules.action_for(state) == "leave"}
    assert left_alone == {"held", "zombie"}
    assert rules.action_for("stopped") == "report"


def plugins(**requires: str) -> list[Plugin]:
    return [Plugin(name, f"/p/{name}.py", "active", tuple(needs.split())) for name, needs in requires.items()]


def test_the_order_of_requirement() -> None:
    known = plugins(a="b>=1", b="c", c="", d="")
    assert rules.in_order(["a", "b", "c", "d"], known) == ["c", "d", "b", "a"]
    assert rules.in_order(["a", "c"], known) == ["c", "a"]
    assert rules.in_order(["a", "unknown"], known) == ["unknown", "a"]
    assert rules.in_order([], known) == []


def test_a_circle_has_some_order() -> None:
    assert sorted(rules.in_order(["a", "b"], plugins(a="b", b="a"))) == ["a", "b"]


def test_a_long_chain_and_many_ways_take_no_time() -> None:
    names = [f"p{number}" for number in range(1_000)]
    chain = [Plugin(name, "", "active", tuple(names[:number][-3:])) for number, name in enumerate(names)]
    shuffled = random.Random(1).sample(names, len(names))
    assert rules.in_order(shuffled, chain) == names


def test_who_is_helped_by_one_that_came() -> None:
    failed = [
        Plugin("a", "", "failed", ("new>=1",), "MK0114"),
        Plugin("b", "", "failed", ("new",), "MK0103"),
        Plugin("c", "", "failed", ("other",), "MK0114"),
        Plugin("d", "", "stopped", ("new",), "MK0125"),
        Plugin("e", "", "failed", ("new", "other"), "MK0125"),
    ]
    assert rules.unblocked_by(["new"], failed) == ["a", "e"]


def test_too_often() -> None:
    assert not rules.too_often([1.0, 2.0], 3, 10.0)
    assert rules.too_often([1.0, 2.0, 3.0], 3, 2.0)
    assert not rules.too_often([1.0, 2.0, 3.1], 3, 2.0)


def test_turns() -> None:
    turns = ReloadQueue()
    assert turns.begin(["a", "b"]) == ["a", "b"]
    assert turns.begin(["a", "c"]) == ["c"]
    assert turns.begin(["a"]) == []
    assert turns.again("a")
    assert not turns.again("a")
    assert turns.begin(["a"]) == ["a"]
    assert not turns.again("b")
