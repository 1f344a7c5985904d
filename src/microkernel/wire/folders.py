"""Folders that are their owner's alone."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

PRIVATE = 0o700


def make_private(folder: Path, mode: int = PRIVATE) -> None:
    """Make a folder, and those above it that are missing, with this mode; what is there stays as it is.

    Raises OSError.
    """
    missing = [*takewhile(lambda each: not each.exists(), (folder, *folder.parents))]  # a guest sees none above its own
    for each in reversed(missing):
        each.mkdir(mode, exist_ok=True)
    if not missing:
        folder.mkdir(exist_ok=True)  # FileExistsError where it is no folder
