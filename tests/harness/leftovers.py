"""What a test may have left in its own process, compared with what was there before.

Only new things count: what earlier tests have left may end meanwhile (a resource tracker, a socket that is garbage).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from pathlib import Path


def descriptors() -> dict[str, str]:
    """This process's open descriptors by number, and what they are."""
    result = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            result[entry] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the one of this listing
    return result


def opened_since(before: Mapping[str, str]) -> dict[str, str]:
    """The descriptors that are open, not garbage, and were not there ``before``."""
    gc.collect()
    return dict(descriptors().items() - before.items())


def gone(pid: int) -> bool:
    """Return whether a process has ended. Its parent may not have waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def descendants(root: int) -> dict[int, str]:
    """All living processes below one, with their command lines."""
    parents, lines = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
                lines[int(entry)] = (
                    Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            if fields[0] not in "ZX":
                parents[int(entry)] = int(fields[1])
    found: dict[int, str] = {}
    while more := {p: lines[p] for p, up in parents.items() if p not in found and (up == root or up in found)}:
        found |= more
    return found
