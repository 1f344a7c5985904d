"""Libraries in C: there are none to be found."""

from __future__ import annotations


def find_library(name: str) -> None:
    """None, as where a library is not installed."""
