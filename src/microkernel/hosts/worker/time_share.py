"""Share of the reactor's time that all untrusted workers together may take."""

from __future__ import annotations

import time
from collections.abc import Callable

# Part of each second, for all workers of a host. The rest is for everything else.
SHARE = 0.5
# Seconds that they may take at once before one has to pause.
BURST = 0.1
# Seconds after which half of what a worker took is forgotten.
_HALF_LIFE = 1.0
# A worker that took fewer seconds does not count in the average.
_NEGLIGIBLE = 0.01


class TimeShares:
    """The share of one host. On the reactor's thread."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, work_clock: Callable[[], float] = time.thread_time
    ) -> None:
        """``work_clock``: processor time of the reactor's thread, so that waiting on a busy machine is not charged."""
        self.clock = clock
        self.work_clock = work_clock
        self._balance = BURST
        self._updated = clock()
        self._accounts: set[TimeAccount] = set()

    def account(self) -> TimeAccount:
        """Open an account for another worker."""
        return TimeAccount(self)

    def spend(self, account: TimeAccount, seconds: float) -> float:
        now = self.clock()
        self._balance = min(self._balance + (now - self._updated) * SHARE, BURST) - seconds
        self._updated = now
        self._accounts.add(account)
        taken = account.add(now, seconds)
        if self._balance >= 0.0 or taken < self._average(now):
            return 0.0
        return -self._balance / SHARE

    def _average(self, now: float) -> float:
        """Return the average of what those workers took lately that took a considerable time."""
        taken = [each.taken(now) for each in self._accounts]
        busy = [each for each in taken if each > _NEGLIGIBLE]
        return sum(busy) / len(busy) if busy else 0.0

    def remove(self, account: TimeAccount) -> None:
        """Close an account. The other workers do not pause for what it overdrew."""
        self._accounts.discard(account)
        self._balance = max(self._balance, 0.0)


class TimeAccount:
    """Account of the work done for one worker; tells whoever does it how long to pause.

    While all workers together exceed their share, those that took more than the average pause.
    """

    def __init__(self, shares: TimeShares) -> None:
        self._shares = shares
        # Clock whose differences are to be charged.
        self.work_clock = shares.work_clock
        self._taken = self._updated = 0.0

    def spend(self, seconds: float) -> float:
        """Charge work just done for the worker. Return the seconds for which no more is to be done for it."""
        return self._shares.spend(self, seconds)

    def add(self, now: float, seconds: float) -> float:
        """Add seconds. Return what the worker took lately."""
        self._taken, self._updated = self.taken(now) + seconds, now
        return self._taken

    def taken(self, now: float) -> float:
        return float(self._taken * 0.5 ** ((now - self._updated) / _HALF_LIFE))

    def close(self) -> None:
        self._shares.remove(self)
