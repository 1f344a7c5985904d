"""The kernel's one thread for descriptors, timers, and changes of its tables. It never waits for a plugin.

Guarantees: work that is posted runs in the order it was posted, on this thread, exactly once. ``post`` may be called on
a thread that can be killed at any bytecode: its only effects are single C calls, and a wake-up is never lost.
"""

from __future__ import annotations

import heapq
import logging
import queue
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TypeVar

from microkernel.errors import KernelClosed
from microkernel.kernel.ports import Clock
from microkernel.kernel.runtime.threads import run_in_thread
from microkernel.kernel.runtime.wakeup import Wakeup
from microkernel.wire.nonblocking_io import MAX_WAIT, SPIN_SECONDS, AdaptiveSpin

T = TypeVar("T")
Work = Callable[[], object]

# With fewer timers it is not worth looking for cancelled ones.
_TIMERS = 1024
_log = logging.getLogger("microkernel")


class Reactor:
    """Event loop on one thread, started by ``start`` and ended by ``close``; each is called only once."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._wakeup = Wakeup()
        self._epoll.register(self._wakeup.fileno(), select.EPOLLIN)
        self._spin = AdaptiveSpin(SPIN_SECONDS, yields=False)
        self._posted: deque[Work] = deque()
        # Work for which no thread could be started.
        self._unstarted: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._helper = threading.Thread(target=self._help_out, name=f"{name}-helper", daemon=True)
        self._ready: dict[int, Work] = {self._wakeup.fileno(): partial(self._wakeup.wait, None)}
        self._timers: list[tuple[float, int, list[Work]]] = []
        self._order = count()
        self._most_timers = _TIMERS
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"{name}-reactor", daemon=True)

    def start(self) -> None:
        """Start the threads. Raises RuntimeError, with no thread left running, if the system has too few."""
        self._thread.start()
        try:
            self._helper.start()
        except RuntimeError:
            self.post(self._close)
            self._thread.join()
            raise

    def close(self) -> None:
        """End the thread after the work posted so far. Called on any other thread."""
        self.post(self._close)
        self._thread.join()
        self._unstarted.put(None)
        self._helper.join()
        self._epoll.close()
        self._wakeup.close()

    def _close(self) -> None:
        self._closing = True

    def now(self) -> float:
        """Return the clock's monotonic seconds."""
        return self._clock.now()

    def watch(self, fd: int, ready: Work, *, write: bool = False) -> None:
        """Call ``ready`` whenever a descriptor is readable (or writable). On this thread only."""
        self._ready[fd] = ready
        self._epoll.register(fd, select.EPOLLOUT if write else select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor. Does nothing if it is not watched. On this thread only."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def post(self, work: Work) -> None:
        try:
            self._posted.append(work)
            self._wakeup.notify()
        except BaseException:
            # A kill between the two lines above must not lose the wake-up: from a handler's entry to its first C call
            # there is no point where another exception could come.
            self._wakeup.set()
            raise

    def submit(self, work: Work) -> None:
        """Run work at once if this is the reactor's thread, else post it."""
        if threading.get_ident() == self._thread.ident:
            work()
        else:
            self.post(work)

    def run(self, work: Callable[[], T], deadline: float | None = None) -> T:
        """Run work on the reactor's thread, and return or raise its outcome. Not for threads of plugins.

        Raises TimeoutError at the deadline (monotonic), after which the work is done all the same; KernelClosed if the
        reactor has stopped.
        """
        if threading.get_ident() == self._thread.ident:
            return work()
        if not self._thread.is_alive():
            raise KernelClosed("MK0612", reason="it has stopped")
        outcome: list[T] = []
        failure: list[BaseException] = []
        done = threading.Event()

        def attempt() -> None:
            try:
                outcome.append(work())
            except BaseException as error:
                failure.append(error)
            finally:
                done.set()

        self.post(attempt)
        if self._ended:  # else posted work is done before the end
            with suppress(ValueError):  # it was done, or is just being
                self._posted.remove(attempt)
                raise KernelClosed("MK0612", reason="it has stopped")
        left = None if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        if not done.wait(left):
            raise TimeoutError
        if failure:
            raise failure[0]
        return outcome[0]

    def later(self, seconds: float, work: Work) -> Work:
        """Call ``work`` once after some seconds, on this thread. Return a function that cancels it. From any thread."""
        entry = [work]
        due = self._clock.now() + seconds
        self.post(lambda: self._add_timer(due, entry))
        return entry.clear

    def beside(self, work: Work, name: str) -> None:
        """Run work that waits on a new thread. From any thread.

        If the system has no thread left, a reserved one runs the work, one item after the other, because a crash or a
        restart must not be lost.
        """
        try:
            run_in_thread(work, name)
        except RuntimeError:
            self._unstarted.put(work)

    def _help_out(self) -> None:
        while (work := self._unstarted.get()) is not None:
            self._do(work)

    def _add_timer(self, due: float, entry: list[Work]) -> None:
        heapq.heappush(self._timers, (due, next(self._order), entry))
        if len(self._timers) > self._most_timers:  # remove cancelled ones before they are due
            self._timers = [timer for timer in self._timers if timer[2]]
            heapq.heapify(self._timers)
            self._most_timers = max(_TIMERS, 2 * len(self._timers))

    def _run(self) -> None:
        while not self._closing:
            for fd, _ in self._look() or self._sleep():
                if ready := self._ready.get(fd):
                    self._do(ready)
            for _ in range(len(self._posted)):
                self._do(self._posted.popleft())
            if self._timers:
                self._fire()
        self._ended = True
        while self._posted:
            self._do(self._posted.popleft())

    def _look(self) -> Sequence[tuple[int, int]]:
        """Poll for a short time, so that no other thread has to wake this one. Return the ready descriptors."""
        if self._posted or not self._spin.should_spin():
            return ()
        events = self._epoll.poll(0)
        if not events:
            began = now = time.monotonic()
            while not events and not self._posted and now - began < self._spin.window:
                events, now = self._epoll.poll(0), time.monotonic()
            self._spin.record(now - began)
        return events

    def _sleep(self) -> Sequence[tuple[int, int]]:
        self._wakeup.arm()
        try:
            return self._epoll.poll(0 if self._posted else self._wait())
        finally:
            self._wakeup.disarm()

    def _wait(self) -> float | None:
        while self._timers and not self._timers[0][2]:
            heapq.heappop(self._timers)
        return min(max(0.0, self._timers[0][0] - self._clock.now()), MAX_WAIT) if self._timers else None

    def _fire(self) -> None:
        now = self._clock.now()
        while self._timers and self._timers[0][0] <= now:
            for work in heapq.heappop(self._timers)[2]:
                self._do(work)

    def _do(self, work: Work) -> None:
        try:
            work()
        except Exception:
            _log.exception("MK0699 the kernel made a mistake of its own; it goes on")
