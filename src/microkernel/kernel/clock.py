"""This machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """The Clock that is used outside tests."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
