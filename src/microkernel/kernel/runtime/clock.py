"""This machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """The Clock that is used outside tests."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
