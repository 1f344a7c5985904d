"""The reactor polls for work before it sleeps. It misses nothing either way, and an idle reactor sleeps."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from microkernel.kernel.runtime import reactor as module
from microkernel.kernel.runtime.clock import SystemClock
from microkernel.kernel.runtime.reactor import Reactor
from tests.harness.waiting import eventually


@pytest.fixture(params=[0.0, 3600.0], ids=["looks in vain", "never sleeps"])
def reactor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reactor]:
    monkeypatch.setattr(module, "SPIN_SECONDS", request.param)
    made = Reactor("test", SystemClock())
    made.start()
    yield made
    made.close()


def test_posted_work_runs_in_order(reactor: Reactor) -> None:
    done: list[int] = []
    for number in range(1000):
        reactor.post(lambda number=number: done.append(number))  # type: ignore[misc]
    reactor.run(bool)
    assert done == list(range(1000))


def test_work_that_missed_its_deadline_still_runs(reactor: Reactor) -> None:
    go_on, done = threading.Event(), threading.Event()
    reactor.post(partial(go_on.wait, 30))
    with pytest.raises(TimeoutError):
        reactor.run(done.set, deadline=time.monotonic())
    assert not done.is_set()
    go_on.set()
    assert done.wait(30)
    assert reactor.run(int, deadline=float("inf")) == 0


def test_watched_descriptor_is_read(reactor: Reactor) -> None:
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reading, writing = os.pipe()
    reactor.run(lambda: reactor.watch(reading, lambda: heard.put(os.read(reading, 1))))
    for word in (b"a", b"b"):
        os.write(writing, word)
        assert heard.get(timeout=30) == word
    reactor.run(lambda: reactor.unwatch(reading))
    os.close(reading)
    os.close(writing)


def test_timer_fires_on_an_idle_reactor(reactor: Reactor) -> None:
    rang = threading.Event()
    reactor._spin.window = 0.0
    reactor.later(0.01, rang.set)
    assert rang.wait(30)


def test_idle_reactor_sleeps() -> None:
    reactor = Reactor("test", SystemClock())
    reactor.start()
    reactor.run(bool)
    eventually(lambda: reactor._wakeup._wanted, "it sleeps")
    reactor.close()
