"""The end of workers and of all they started, when the zygote, whose work this is, has died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Container, Sequence
from contextlib import suppress

_MAX_SECONDS = 2.0
"""Seconds: what multiplies faster than it can be killed must not hold up the kernel."""


def end_trees(roots: Sequence[int]) -> None:
    """Kill workers and all that descends from them.

    A stopped worker stays the parent of every orphan below it and waits for none: so the dead stay listed. A process
    that leaps, forking and exiting again and again, is missed by a look that comes between two leaps; but the next look
    finds a dead one more. When two looks in succession find the same, and nobody alive, nothing is left.
    """
    for root in roots:
        _send(root, signal.SIGSTOP)
    until = time.monotonic() + _MAX_SECONDS
    before: set[int] | None = None
    while time.monotonic() < until:
        children, are_dead = _kill_children(roots)
        if are_dead and children == before:
            break
        before = children
    for root in roots:
        _send(root, signal.SIGKILL)


def _kill_children(parents: Container[int]) -> tuple[set[int], bool]:
    """Each as soon as it is seen, the newest first, before it can leap. All there are, and whether all were dead."""
    children, are_dead = set(), True
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc"))), reverse=True):
        state, parent = _state_of(pid)
        if parent in parents:
            children.add(pid)
            if state not in "ZX":
                are_dead = False
                _send(pid, signal.SIGKILL)
    return children, are_dead


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _state_of(pid: int) -> tuple[str, int]:
    """And its parent, which is 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, parent, *_ = stat.read().rpartition(b")")[2].split(maxsplit=2)
    except (OSError, ValueError):
        return "X", 0
    return state.decode(), int(parent)
