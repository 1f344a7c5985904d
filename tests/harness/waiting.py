"""How tests wait: for what will be so, and no longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 40.0
"""Seconds that are only ever reached when a test fails."""
_GLANCE = 0.005


def eventually(condition: Callable[[], T], what: str = "", seconds: float = PATIENCE) -> T:
    """What ``condition`` gives as soon as it is true. Raises AssertionError when patience is at its end."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"did not happen in {seconds} s: {what or condition}")
        time.sleep(_GLANCE)
    return value
