"""What this process looks like from outside: its memory, its descriptors, its children."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from microkernel.kernel.registry.instance import Instance
from tests.harness.leftovers import descendants, descriptors

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Look:
    """``instances``: how many instances the kernel holds, living or not."""

    memory: int
    descriptors: int
    threads: int
    processes: int
    instances: int


def look() -> Look:
    gc.collect()
    instances = sum(isinstance(each, Instance) for each in gc.get_objects())
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    return Look(resident, len(descriptors()), threading.active_count(), len(descendants(os.getpid())), instances)


def zygotes() -> list[int]:
    """Our own children that fork workers; while they are not waited for their number is nobody else's."""
    family = descendants(os.getpid())
    return [
        pid
        for pid, line in family.items()
        if "microkernel.worker.zygote.server" in line and _parent(pid) == os.getpid()
    ]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0
