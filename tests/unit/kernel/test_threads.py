"""Work on threads, where there are some and where there are none."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from microkernel.kernel.runtime.clock import SystemClock
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.runtime.threads import for_each

PATIENCE = 30.0


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor("test", SystemClock())
    reactor.start()
    yield reactor
    reactor.close()


def test_for_each_runs_all_items_concurrently_if_allowed() -> None:
    meeting = threading.Barrier(20)
    for_each(range(20), lambda _: meeting.wait(PATIENCE), 20, "test")


def test_for_each_respects_the_concurrency_limit() -> None:
    running, most, lock = [0], [0], threading.Lock()
    third = threading.Barrier(3)

    def work(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        third.wait(PATIENCE)
        with lock:
            running[0] -= 1

    for_each(range(12), work, 3, "test")
    assert most == [3]


@pytest.mark.usefixtures("no_threads")
def test_for_each_runs_inline_without_threads() -> None:
    done: list[int] = []
    for_each(range(5), done.append, 16, "test")
    assert done == [0, 1, 2, 3, 4]


def test_for_each_runs_the_other_items_if_one_raises() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ValueError, match="1"):
        for_each(range(5), work, 2, "test")
    assert sorted(done) == [0, 2, 3, 4]


def test_work_runs_in_order_if_no_thread_can_be_started(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    over = threading.Event()
    for number in range(3):
        reactor.beside(lambda number=number: done.append(number), "test")  # type: ignore[misc]
    reactor.beside(lambda: 1 / 0, "test")  # a mistake in one keeps no other from being done
    reactor.beside(over.set, "test")
    assert over.wait(PATIENCE)
    assert done == [0, 1, 2]


@pytest.mark.parametrize("which", [0, 1])
def test_reactor_that_fails_to_start_leaves_no_threads(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    start, started = threading.Thread.start, list[str]()

    def refuse(thread: threading.Thread) -> None:
        if len(started) == which:
            raise RuntimeError("can't start new thread")
        started.append(thread.name)
        start(thread)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        Reactor("test", SystemClock()).start()
    assert threading.active_count() == before
