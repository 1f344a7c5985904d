"""Memory, processor time, descriptors and threads of processes, as reported by the system."""

from __future__ import annotations

import os
from pathlib import Path

_KiB = 1024
_SECOND = 1_000_000_000


def pss_of(pid: int) -> int:
    """Return the proportional set size in bytes: shared pages are divided among the processes that share them."""
    return _rollup(pid, "Pss")


def own_of(pid: int) -> int:
    """Return the private memory in bytes."""
    return _rollup(pid, "Private_Clean") + _rollup(pid, "Private_Dirty")


def resident_of(pid: int) -> int:
    """Return the resident memory in bytes, shared or not."""
    return _rollup(pid, "Rss")


def cpu_of(pid: int) -> float:
    """Return the processor seconds of all threads that still run."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / _SECOND


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _rollup(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * _KiB for line in lines if line.startswith(f"{name}:"))
