"""Folders that are private to their owner."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

PRIVATE = 0o700


def make_private(folder: Path, mode: int = PRIVATE) -> None:
    """Create a folder and its missing parents with this mode. Existing folders are not changed.

    Raises OSError.
    """
    missing = [*takewhile(lambda each: not each.exists(), (folder, *folder.parents))]  # a guest sees none above
    for each in reversed(missing):
        each.mkdir(mode, exist_ok=True)
    if not missing:
        folder.mkdir(exist_ok=True)  # FileExistsError if it is not a folder
