"""Kill workers and all their descendants after the zygote, which normally does that, has died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Container, Sequence
from contextlib import suppress

from microkernel.hosts.procfs.reads import stat_fields

# Bound in seconds: processes that multiply faster than they can be killed must not delay the kernel.
_MAX_SECONDS = 2.0


def end_trees(roots: Sequence[int]) -> None:
    """Kill workers and all their descendants.

    A stopped worker remains the parent of every orphan below it and reaps none, so the dead stay listed. A process that
    keeps forking and exiting can be missed by a scan that comes between two forks; but then the next scan finds one
    more dead process. When two successive scans find the same processes, all dead, nothing is left.
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
    """Kill each child as soon as it is seen, newest first, before it can fork. Return all children, and whether all
    were dead."""
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
    """Return its state and its parent; the parent of a process that is gone is 0."""
    try:
        state, parent, *_ = stat_fields(pid)
    except OSError:
        return "X", 0
    return state.decode(), int(parent)
