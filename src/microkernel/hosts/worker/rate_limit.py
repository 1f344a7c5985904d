"""Rate limit: a number of times per second, with a burst of a few seconds' worth."""

from __future__ import annotations

import time

# In seconds.
_BURST = 4.0


class TokenBucket:
    """Token bucket, full at first."""

    __slots__ = ("_at", "_tokens", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._tokens = per_second * _BURST
        self._at = time.monotonic()

    def take(self) -> bool:
        """Take a token. Return whether one was left."""
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._at) * self.per_second, self.per_second * _BURST) - 1.0
        self._at = now
        return self._tokens >= 0.0
