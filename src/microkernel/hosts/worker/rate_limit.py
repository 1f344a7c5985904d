"""How often something may happen: so many times a second, and a few seconds' worth at once."""

from __future__ import annotations

import time

_BURST = 4.0
"""Seconds."""


class Rate:
    """A bucket of tokens, full at first."""

    __slots__ = ("_at", "_tokens", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._tokens = per_second * _BURST
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether it may happen now."""
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._at) * self.per_second, self.per_second * _BURST) - 1.0
        self._at = now
        return self._tokens >= 0.0
