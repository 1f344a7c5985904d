"""Search for C libraries, which always fails."""

from __future__ import annotations


def find_library(name: str) -> None:
    """Return None, as for a library that is not installed."""
