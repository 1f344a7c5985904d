"""Token bucket: a number of items per second, with a burst of a few seconds' worth."""

from __future__ import annotations

import time
from collections.abc import Callable

# Items that may come at once, in seconds of the rate.
BURST = 4.0


class TokenBucket:
    """Token bucket, full at first. ``now`` returns monotonic seconds."""

    __slots__ = ("_at", "_now", "_tokens", "per_second")

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._now = now
        self._tokens = per_second * BURST
        self._at = now()

    def take(self) -> bool:
        """Take a token. Return False if none is left."""
        now = self._now()
        self._tokens = min(self._tokens + (now - self._at) * self.per_second, self.per_second * BURST)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
