"""Revisions of keys that were deleted, where there are more of them than are remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from microkernel.errors import RevisionConflict
from microkernel.kernel import context
from microkernel.kernel.context import Context
from microkernel.kernel.subscriptions import Subscriptions
from microkernel.wire.codec import Raw


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(context, "_REMEMBERED", 10)
    nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
    return Context(Subscriptions(), nothing, lambda _: 1e9)


def test_what_is_not_remembered_does_not_return_either(board: Context) -> None:
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


def test_keys_that_come_and_go_by_the_thousand_are_not_kept(board: Context) -> None:
    for number in range(1000):
        board.set("p", f"key.{number}", Raw(b"\xc0"))
    assert len(board.forget("p")) == 1000
    assert len(board._deleted) == 10
    assert board.names() == []
