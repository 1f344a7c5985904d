"""Handlers of the embedding program that run on the emitting thread: consecutive similar ones share a decoded event."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microkernel import Event, Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(tmp_path) as running:
        yield running


def count(kernel: Kernel) -> int:
    return len(kernel.core.topics.matches["a.b"])


def test_inline_handlers_run_in_order_whatever_their_parameters(kernel: Kernel) -> None:
    came: list[str] = []
    first = kernel.on("a.b", lambda number: came.append(f"1 {number}"), inline=True)
    kernel.on("a.b", lambda number: came.append(f"2 {number}"), inline=True)
    kernel.on("a.b", lambda event: came.append(f"3 {event.topic}"), inline=True)
    kernel.on("a.b", lambda number: came.append(f"4 {number}"), inline=True)
    kernel.on("a.*", lambda number: came.append(f"5 {number}"), inline=True)
    kernel.on("a.b", lambda number: came.append(f"6 {number}"), inline=True)
    kernel.emit("a.b", number=7)
    assert came == ["1 7", "2 7", "3 a.b", "4 7", "5 7", "6 7"]
    came.clear()
    first.cancel()
    first.cancel()
    kernel.emit("a.b", number=8)
    assert came == ["2 8", "3 a.b", "4 8", "5 8", "6 8"]


def test_all_handlers_get_the_same_event_id_and_time(kernel: Kernel) -> None:
    """Whether they run inline, receive it from a mailbox, or run once."""
    seen: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()

    def see(event: Event) -> None:
        seen.put((event.id, event.time))

    kernel.on("a.b", see, inline=True)
    kernel.on("a.b", see, inline=True, once=True)
    kernel.on("a.b", see)
    kernel.emit("a.b", number=1)
    first, *others = (seen.get(timeout=30) for _ in range(3))
    assert others == [first, first]


def test_equal_inline_handlers_share_one_subscription_until_the_last_is_removed(kernel: Kernel) -> None:
    before = count(kernel)
    subscriptions = [kernel.on("a.b", lambda number: None, inline=True) for _ in range(50)]
    assert count(kernel) == before + 1
    for subscription in subscriptions:
        subscription.cancel()
    assert count(kernel) == before


def test_an_inline_handler_that_raises_does_not_stop_the_others(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[int] = []

    def broken(number: int) -> None:
        raise KeyError(number)

    kernel.on("a.b", came.append, inline=True)
    for handler in (lambda number: came.append(number), broken, lambda number: came.append(number)):
        kernel.on("a.b", handler, inline=True)
    came.clear()
    with caplog.at_level(logging.ERROR, "microkernel"):
        kernel.emit("a.b", number=3)
    assert [each for each in came if isinstance(each, int)] == [3, 3]
    assert sum("MK0619" in record.getMessage() for record in caplog.records) == 1


def test_mutable_values_are_not_shared(kernel: Kernel) -> None:
    came: list[list[int]] = []

    def change(numbers: list[int]) -> None:
        numbers.append(0)
        came.append(numbers)

    for _ in range(3):
        kernel.on("a.b", lambda numbers: change(numbers), inline=True)
    mine = [1, 2]
    kernel.emit("a.b", numbers=mine)
    assert came == [[1, 2, 0]] * 3
    assert mine == [1, 2]


class Text(str):
    pass


@pytest.mark.parametrize("value", ["word", None, 1.5, b"bytes", True, 2**63])
def test_immutable_values_are_shared(kernel: Kernel, value: Any) -> None:
    came: list[Any] = []
    for _ in range(3):
        kernel.on("a.b", lambda value: came.append(value), inline=True)
    kernel.emit("a.b", value=value)
    assert came == [value] * 3
    assert len({id(each) for each in came}) == 1


def test_each_inline_handler_reports_what_does_not_fit(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    def first(number: int) -> None:
        raise AssertionError

    def second(number: int) -> None:
        raise AssertionError

    kernel.on("a.b", first, inline=True)
    kernel.on("a.b", second, inline=True)
    with caplog.at_level(logging.ERROR, "microkernel"):
        kernel.emit("a.b", number="three")
    told = [record.getMessage() for record in caplog.records if "MK0605" in record.getMessage()]
    assert len(told) == 2
    assert "first" in told[0]
    assert "second" in told[1]


def test_inline_handlers_with_other_hints_or_defaults_are_not_grouped(kernel: Kernel) -> None:
    came: list[Any] = []

    def whole(number: int = 1) -> None:
        came.append(number)

    def other(number: int = 2) -> None:
        came.append(number)

    def real(number: float = 1) -> None:
        came.append(float(number))

    for handler in (whole, other, real):
        kernel.on("a.b", handler, inline=True)
    kernel.emit("a.b")
    assert came == [1, 2, 1.0]


def test_an_inline_handler_may_subscribe_and_cancel_while_it_runs(kernel: Kernel) -> None:
    came: list[str] = []
    done = threading.Event()

    def once(event: Event) -> None:
        own.cancel()
        kernel.on("a.b", lambda number: came.append("later"), inline=True)
        came.append(threading.current_thread().name)
        done.set()

    own = kernel.on("a.b", once, inline=True)
    kernel.core.reactor.post(lambda: kernel.emit("a.b", number=1))
    assert done.wait(10)
    assert "reactor" in came[0]
    kernel.emit("a.b", number=2)
    assert came[1:] == ["later"]
