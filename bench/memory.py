"""Memory of processes, as the system tells it."""

from __future__ import annotations

from pathlib import Path

_KiB = 1024


def pss_of(pid: int) -> int:
    """Bytes that would be free without it: what it shares counts by its share."""
    return _field(pid, "Pss")


def own_of(pid: int) -> int:
    """Bytes that it shares with nobody."""
    return _field(pid, "Private_Clean") + _field(pid, "Private_Dirty")


def _field(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * _KiB for line in lines if line.startswith(f"{name}:"))
