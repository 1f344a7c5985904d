"""Waiting for an answer by a wakeup per thread, which more than one answer may set."""

from __future__ import annotations

import os
import threading
import time

import pytest

from microkernel.embedder.calls import Waiter
from microkernel.wire.messages import Response
from tests.harness.leftovers import descriptors, opened_since

_FAR = time.monotonic() + 3600


def test_a_repeated_answer_wakes_the_next_call_without_a_reply() -> None:
    first, second = Waiter(), Waiter()
    first.answer(Response(1))
    first.answer(Response(1))
    assert first.wait(1, _FAR) == Response(1)
    later = threading.Timer(0.05, second.answer, [Response(2)])
    later.start()
    assert second.wait(2, _FAR) == Response(2)
    later.join()


def test_a_late_answer_is_not_given_to_the_next_call() -> None:
    first, second = Waiter(), Waiter()
    assert first.wait(1, time.monotonic()) is None
    first.answer(Response(1))
    assert second.wait(2, time.monotonic() + 0.01) is None


def test_a_waiter_with_a_very_long_timeout_is_woken() -> None:
    waiter = Waiter()
    later = threading.Timer(0.05, waiter.answer, [Response(1)])
    later.start()
    assert waiter.wait(1, time.monotonic() + 1e9) == Response(1)
    later.join()


def test_a_forked_copy_has_its_own_wakeups() -> None:
    waiter = Waiter()
    child = os.fork()
    if child == 0:
        os._exit(int(Waiter()._wakeup is waiter._wakeup))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted there")
def test_a_thread_that_has_ended_leaves_no_descriptor() -> None:
    def call() -> None:
        waiter = Waiter()
        waiter.answer(Response(1))
        assert waiter.wait(1, _FAR) == Response(1)

    def call_beside() -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    call_beside()
    before = descriptors()
    for _ in range(20):
        call_beside()
    assert opened_since(before) == {}
