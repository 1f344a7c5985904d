"""Shared data: revisions of keys that were deleted, and what a new watcher is notified of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from microkernel.errors import PayloadTooLarge, RevisionConflict
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.routing import data_store
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.routing.sorted_keys import SortedKeys
from microkernel.wire.codec import Raw


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> DataStore:
    monkeypatch.setattr(data_store, "_REMEMBERED", 10)
    nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
    return DataStore(TopicIndex(), nothing, lambda _: Limits())


def test_forgotten_revision_of_a_deleted_key_is_not_reused(board: DataStore) -> None:
    data = Raw(b"\xc0")
    for _ in range(7):
        board.set("p", "a.key", data)
    board.delete("a.key")
    for number in range(100):
        assert board.set("p", f"other.{number}", data) >= 1
        board.delete(f"other.{number}")
    assert len(board._deleted) == 10
    with pytest.raises(RevisionConflict):
        board.set("p", "a.key", data, expect=7)
    assert board.set("p", "a.key", data, expect=0) > 7


def test_thousands_of_deleted_keys_leave_nothing(board: DataStore) -> None:
    for number in range(1000):
        board.set("p", f"key.{number}", Raw(b"\xc0"))
    assert len(board.forget("p")) == 1000
    assert len(board._deleted) == 10
    assert board.names() == []


class Board:
    """A store with some keys, whose further turns are run by hand. ``notified`` has (owner, key, revision)."""

    def __init__(self, **limits: int) -> None:
        self.turns: list[Callable[[], object]] = []
        self.notified: list[tuple[str, str]] = []
        self.watchers = TopicIndex()
        self.store = DataStore(self.watchers, self._notify, lambda _: Limits(**limits), self.turns.append)

    def _notify(self, watchers: Sequence[TopicSubscription], key: str, _: Raw) -> None:
        self.notified += [(watcher.owner, key) for watcher in watchers]

    def watch(self, owner: str, pattern: str, number: int = 1) -> TopicSubscription:
        watcher = TopicSubscription(owner, pattern, "f", None, number=number, watches_data=True)  # type: ignore[arg-type]
        self.watchers.add(watcher)
        self.store.send_current(watcher)
        return watcher

    def turn(self) -> list[tuple[str, str]]:
        """What a further turn notified of."""
        before = len(self.notified)
        self.turns.pop(0)()
        return self.notified[before:]


def many(board: Board, count: int) -> list[str]:
    keys = [f"p.k{number:05}" for number in range(count)]
    for key in keys:
        board.store.set("p", key, NULL)
    return keys


NULL = Raw(b"\xc0")


def test_new_watcher_gets_all_values_a_few_per_turn() -> None:
    board = Board()
    keys = many(board, 1000)
    board.watch("w", "p.*")
    assert [key for _, key in board.notified] == keys[:32]
    while board.turns:
        assert len(board.turn()) <= 32
    assert [key for _, key in board.notified] == keys


def test_watcher_of_one_key_examines_no_other_key() -> None:
    board = Board()
    many(board, 100)
    board.store._order.after = None  # type: ignore[method-assign, assignment]
    board.watch("w", "p.k00050")
    assert board.notified == [("w", "p.k00050")]


def test_many_watchers_of_one_owner_do_not_delay_those_of_another() -> None:
    board = Board()
    many(board, 200)
    for number in range(50):
        board.watch("greedy", "p.*", number + 1)
    board.watch("other", "p.*")
    turns = 0
    while [owner for owner, _ in board.notified].count("other") < 200:
        board.turn()
        turns += 1
    assert turns <= 2 * (200 // 32 + 1)


def test_values_written_before_their_turn_are_notified_once() -> None:
    board = Board()
    keys = many(board, 100)
    board.watch("w", "p.*")
    board.store.set("p", keys[-1], NULL)
    board.store.set("p", keys[0], NULL)
    board.store.delete(keys[50])
    board.store.set("p", "p.k99999", NULL)
    while board.turns:
        board.turn()
    counts = {key: board.notified.count(("w", key)) for key in [*keys, "p.k99999"]}
    assert counts == {**dict.fromkeys(keys, 1), keys[0]: 2, "p.k99999": 1}


def test_removed_watcher_gets_no_more_notifications() -> None:
    board = Board()
    many(board, 100)
    board.watch("w", "p.*").number = 0
    while board.turns:
        assert board.turn() == []


def test_keys_of_a_plugin_are_limited() -> None:
    board = Board(keys=3)
    keys = many(board, 3)
    with pytest.raises(PayloadTooLarge, match="MK0629"):
        board.store.set("p", "p.more", NULL)
    board.store.set("p", keys[0], NULL)
    board.store.delete(keys[1])
    board.store.set("p", "p.more", NULL)


def test_keys_are_kept_in_their_order() -> None:
    keys, expected = SortedKeys(), set()
    random = Random(7)
    for _ in range(20_000):
        key = f"k{random.randrange(5000)}"
        if random.random() < 0.6:
            keys.add(key)
            expected.add(key)
        else:
            keys.remove(key)
            expected.discard(key)
    assert [*keys.after("")] == sorted(expected)
    assert [*keys.after("k3")] == sorted(key for key in expected if key > "k3")
