"""Check periodically what no limit of the system bounds, on one thread for all workers of a host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from statistics import median_low

# One check of one worker. It yields between steps that take microseconds, so that others have their turn.
Check = Generator[None, None, None]

_INTERVAL = 1.0
_MAX_INTERVAL = 30.0
# Measuring takes at most this fraction of one core: an expensive check comes round less often.
_COST_FACTOR = 50
# What a frequent check counts as at most, so that no worker delays the frequent checks of others, or its own.
_MAX_FREQUENT_COST = 0.002
# How long one check may run before the next one has its turn.
_SLICE = 0.002


@dataclass(slots=True, eq=False)
class _Watched:
    check: Callable[[], Check]
    on_failure: Callable[[Exception], object]
    due: float
    frequent: bool
    running: Check | None = None
    spent: float = 0.0
    cost: float = 0.0  # of the last complete check, in seconds

    def step(self, clock: Callable[[], float]) -> bool:
        """Run the check for a slice of time. Return whether it has ended."""
        began = clock()
        self.running = self.running or self.check()
        has_ended = all(clock() < began + _SLICE for _ in self.running)
        self.spent += clock() - began
        if has_ended:
            self.running, self.cost, self.spent = None, self.spent, 0.0
        return has_ended

    def plan(self, due: float) -> None:
        self.due = due


class UsageMonitor:
    """Calls ``check`` for each worker about once a second, on a separate thread, which exists only while there are
    workers.

    Checks take turns in slices of 2 ms, and each waits 50 times as long as it took, so a worker that makes its check
    expensive delays only that check. A frequent check comes round regardless of its cost, which the system bounds. A
    check that raises ends, and ``on_failure`` is called with the error; the others continue. If the loop itself fails,
    ``report`` is called with the error and the loop starts again.
    """

    def __init__(self, report: Callable[[Exception], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._watched: dict[object, _Watched] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def add(
        self,
        key: object,
        check: Callable[[], Check],
        on_failure: Callable[[Exception], object],
        *,
        frequent: bool = False,
    ) -> None:
        """Start to check a worker. Raises RuntimeError if a thread is needed and the system has none left."""
        with self._lock:
            self._watched[key] = _Watched(check, on_failure, self._clock() + _INTERVAL, frequent)
            if self._thread is None and not self._ending.is_set():
                thread = threading.Thread(target=self._run, name="microkernel-usage", daemon=True)
                thread.start()
                self._thread = thread

    def expedite(self, key: object) -> None:
        """Run a check as soon as possible. To be called from a check: there is no other thread to wake."""
        if watched := self._watched.get(key):
            watched.plan(self._clock())

    def remove(self, key: object) -> None:
        """Stop checking. Idempotent. A running check is abandoned at its next step."""
        self._watched.pop(key, None)

    def close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._ending.wait(pause):
            try:
                if not self._has_work():
                    return
                pause = self.turn()
            except Exception as error:  # memory may have run out: that must leave no worker unchecked
                self._report(error)
                pause = _INTERVAL

    def _has_work(self) -> bool:
        with self._lock:
            if not self._watched:
                self._thread = None
            return bool(self._watched)

    def turn(self) -> float:
        """Advance each check that is due by one slice. Return the seconds until the next one is due."""
        watched = list(self._watched.items())
        for key, each in watched:
            if each.due <= self._clock():
                self._advance(key, each, watched)
        return max(0.0, min((each.due for _, each in watched), default=0.0) - self._clock())

    def _advance(self, key: object, each: _Watched, watched: list[tuple[object, _Watched]]) -> None:
        try:
            has_ended = each.step(self._clock)
        except Exception as error:  # a worker influences what is read: its check must not end the others
            self._watched.pop(key, None)
            each.on_failure(error)
            return
        if has_ended:
            kind = [other for _, other in watched if other.frequent == each.frequent]
            each.plan(self._clock() + _pause(each, kind))


def _pause(each: _Watched, kind: list[_Watched]) -> float:
    """Return the seconds until the next check.

    They depend on what a *usual* check of its kind costs, so that one expensive check delays only itself.
    """
    usual = median_low(other.cost for other in kind)
    own, usual = (0.0, min(usual, _MAX_FREQUENT_COST)) if each.frequent else (each.cost, usual)
    return min(max(_INTERVAL, _COST_FACTOR * own, _COST_FACTOR * usual * len(kind)), _MAX_INTERVAL)
