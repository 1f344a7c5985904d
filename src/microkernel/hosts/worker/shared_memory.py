"""Shared memory and named semaphores that a worker leaves behind when it has exited.

POSIX shared memory has no owner: it is a file in ``/dev/shm`` that stays until a process removes it. A segment counts
as the worker's own if the worker has it mapped or open just before it is asked to stop, and it did not exist when the
worker started.
"""

from __future__ import annotations

import os
from contextlib import suppress

_FOLDER = "/dev/shm"


def existing_segments() -> frozenset[str]:
    """Return the names of all segments."""
    try:
        return frozenset(os.listdir(_FOLDER))
    except OSError:
        return frozenset()


def segments_of(pid: int) -> set[str]:
    """Return the names of the segments that a process has mapped or open; empty where that cannot be read."""
    paths: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        with open(f"/proc/{pid}/maps") as maps:
            paths += [line.rstrip("\n").partition(f" {_FOLDER}/")[2] for line in maps if f" {_FOLDER}/" in line]
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                paths += [os.readlink(f"/proc/{pid}/fd/{descriptor}").partition(f"{_FOLDER}/")[2]]
    return {path for path in paths if path and not path.endswith(" (deleted)")}


def stale_segments(names: set[str]) -> list[str]:
    """Return which of these still exist and no process uses. A segment that another process has open is that one's
    too."""
    left = names & existing_segments()
    if left:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                left -= segments_of(int(entry))
    return [f"shared memory {_FOLDER}/{name}" for name in sorted(left)]
