"""An armed wakeup is set once, by any of several threads, and no notification is lost."""

from __future__ import annotations

import threading
import time

from microkernel.kernel.runtime.wakeup import Wakeup


def counted(bell: Wakeup) -> list[str]:
    rung: list[str] = []
    ring = bell.set

    def counts() -> None:
        rung.append("ring")
        ring()

    bell.set = counts
    return rung


def test_notify_sets_only_an_armed_wakeup_and_only_once() -> None:
    bell = Wakeup()
    rung = counted(bell)
    bell.notify()
    assert rung == []
    bell.arm()
    for _ in range(3):
        bell.notify()
    assert rung == ["ring"]
    bell.arm()
    bell.disarm()
    bell.notify()
    assert rung == ["ring"]


def test_notify_always_sets_the_wakeup_of_an_event_loop() -> None:
    bell = Wakeup()
    rung = counted(bell)
    bell.keep_armed()
    for _ in range(3):
        bell.notify()
    assert rung == ["ring"] * 3


def test_concurrent_notifications_are_not_lost() -> None:
    """A thousand rounds: each time somebody expects, two bring something; whoever waits always sees both."""
    bell, brought, seen = Wakeup(), [0, 0], 0
    barrier = threading.Barrier(3)

    def bring(which: int) -> None:
        for _ in range(1000):
            barrier.wait()
            brought[which] += 1
            bell.notify()

    callers = [threading.Thread(target=bring, args=(which,)) for which in (0, 1)]
    for caller in callers:
        caller.start()
    for round in range(1, 1001):
        barrier.wait()
        until = time.monotonic() + 30
        while sum(brought) < 2 * round and time.monotonic() < until:
            bell.arm()
            if sum(brought) < 2 * round:
                bell.wait(30)
            bell.disarm()
        seen = sum(brought)
        assert time.monotonic() < until
    for caller in callers:
        caller.join()
    assert seen == 2000
