"""Rate limit of reports: counts the items over the limit, and reports their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from microkernel.kernel.runtime.token_bucket import TokenBucket


class Timers(Protocol):
    def now(self) -> float: ...


class RateLimit:
    """Admits ``per_second`` items, and a burst, as a ``TokenBucket`` does. On the reactor's thread.

    Items over the limit are counted. ``report`` is called with their number a second after the first of them, so that a
    flood costs one report a second.
    """

    def __init__(
        self,
        per_second: float,
        clock: Timers,
        later: Callable[[float, Callable[[], object]], object],
        report: Callable[[int], object],
    ) -> None:
        self.per_second = per_second
        self._bucket = TokenBucket(per_second, clock.now)
        self._later = later
        self._report = report
        self._held_back = 0

    def take(self) -> bool:
        """Return whether the next item is admitted, and count it if it is not."""
        if self._bucket.take():
            return True
        self._held_back += 1
        if self._held_back == 1:
            self._later(1.0, self._tell)
        return False

    def _tell(self) -> None:
        count, self._held_back = self._held_back, 0
        self._report(count)
