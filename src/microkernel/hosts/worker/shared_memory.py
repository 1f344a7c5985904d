"""Shared memory and named semaphores that a worker has open, and that are there when it has ended.

POSIX shared memory belongs to nobody: it is a file in ``/dev/shm`` that stays until somebody removes it. What a worker
has mapped or open just before it is asked to stop, and what was not there when it began, is taken for its own.
"""

from __future__ import annotations

import os
from contextlib import suppress

_FOLDER = "/dev/shm"


def existing_segments() -> frozenset[str]:
    """The names of all there is."""
    try:
        return frozenset(os.listdir(_FOLDER))
    except OSError:
        return frozenset()


def segments_of(pid: int) -> set[str]:
    """The names of what a process has mapped or open; empty where that cannot be read."""
    paths: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        with open(f"/proc/{pid}/maps") as maps:
            paths += [line.rstrip("\n").partition(f" {_FOLDER}/")[2] for line in maps if f" {_FOLDER}/" in line]
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                paths += [os.readlink(f"/proc/{pid}/fd/{descriptor}").partition(f"{_FOLDER}/")[2]]
    return {path for path in paths if path and not path.endswith(" (deleted)")}


def stale_segments(names: set[str]) -> list[str]:
    """Which of these are still there and nobody's: what another process has open is that one's too."""
    left = names & existing_segments()
    if left:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                left -= segments_of(int(entry))
    return [f"shared memory {_FOLDER}/{name}" for name in sorted(left)]
