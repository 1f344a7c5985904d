"""The timers of one instance: when the next is due, and which are due. The caller supplies the time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Timer:
    """A timer. ``running`` is maintained by its user: a timer that is due while it is set is skipped."""

    __slots__ = ("cancelled", "due", "function", "is_async", "repeat", "running", "seconds")

    def __init__(self, seconds: float, function: Callable[[], Any], *, repeat: bool, is_async: bool) -> None:
        self.seconds = seconds
        self.function = function
        self.repeat = repeat
        self.is_async = is_async
        self.due = 0.0
        self.cancelled = False
        self.running = False

    def cancel(self) -> None:
        self.cancelled = True


class TimerQueue:
    """A heap of timers, inactive until ``begin``. Missed runs are skipped, not made up for."""

    def __init__(self) -> None:
        # (due time, order, timer); empty if there are none, or before ``begin``.
        self.heap: list[tuple[float, int, Timer]] = []
        self._waiting: list[Timer] | None = []
        self._order = count()

    def begin(self, now: float) -> None:
        """Activate the timers. Their intervals start now."""
        waiting, self._waiting = self._waiting or [], None
        for timer in waiting:
            self.add(timer, now)

    def add(self, timer: Timer, now: float) -> None:
        if self._waiting is not None:
            self._waiting.append(timer)
            return
        timer.due = now + timer.seconds
        self._push(timer)

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next is due; None without timers."""
        while self.heap and self.heap[0][2].cancelled:
            heapq.heappop(self.heap)
        return max(0.0, self.heap[0][0] - now) if self.heap else None

    def due(self, now: float) -> list[Timer]:
        """Remove and return all timers that are due; repeating ones are added again for their next run."""
        ready = []
        while self.heap and self.heap[0][0] <= now:
            timer = heapq.heappop(self.heap)[2]
            if timer.cancelled:
                continue
            if timer.repeat:
                timer.due += timer.seconds * max(1, -(-(now - timer.due) // timer.seconds))
                self._push(timer)
            if not timer.running:
                ready.append(timer)
        return ready

    def _push(self, timer: Timer) -> None:
        heapq.heappush(self.heap, (timer.due, next(self._order), timer))
