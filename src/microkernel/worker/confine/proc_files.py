"""Files of ``/proc`` and ``/sys/fs/cgroup`` that a confined worker may read about itself.

Libraries size their pools and buffers by them: duckdb, psutil, polars, the runtime of Rust. Each file is allowed
separately, never a folder, because next to them are the environment, the memory and the mounts of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

# The machine. The system calls `uname` and `sysinfo` and the processor itself reveal nearly all of this. Not
# /proc/stat: its interrupt counters reveal what is typed.
OF_MACHINE = (
    b"/proc/cpuinfo", b"/proc/meminfo", b"/proc/loadavg", b"/proc/version", b"/proc/sys/vm/overcommit_memory",
)  # fmt: skip
OWN = tuple(f"/proc/self/{name}".encode() for name in ("cgroup", "status", "stat", "statm", "limits", "maps"))
_ROOT = "/sys/fs/cgroup"
# By controller; the empty name is version 2, which has one hierarchy for all.
_LIMITS = {
    "": ("cpu.max", "memory.max", "memory.high", "memory.swap.max", "cpuset.cpus.effective"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"),
    "cpuset": ("cpuset.cpus", "cpuset.effective_cpus"),
    "memory": ("memory.limit_in_bytes", "memory.soft_limit_in_bytes"),
}


def readable() -> list[bytes]:
    """Return the paths of the machine's and this process's files and of the limits of its control group."""
    return [*OF_MACHINE, *OWN, *(os.fsencode(path) for path in _cgroup_limits() if os.path.exists(path))]


def pin(paths: Iterable[bytes]) -> list[int]:
    """Keep the entries of ``/proc`` in memory, and return the descriptors that do so.

    An entry of ``/proc`` that is not in use may be dropped and created again, and a Landlock rule is for the one that
    existed when the rule was made. The zygote pins the machine's files for all its workers.
    """
    pinned = []
    for path in paths:
        if path.startswith(b"/proc/"):
            with suppress(OSError):  # left out: the file stays closed
                pinned.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return pinned


def _cgroup_limits() -> Iterator[str]:
    """Yield the files with the limits of this process's control groups and of those above them."""
    try:
        with open("/proc/self/cgroup", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in lines:
        for controller in controllers.split(","):
            for folder in _folders(os.path.join(_ROOT, controller), path):
                yield from (os.path.join(folder, name) for name in _LIMITS.get(controller, ()))


def _folders(mount: str, path: str) -> Iterator[str]:
    """Yield the folder of the group at ``path`` and those above it. A container may see only the last as its root."""
    while path.strip("/"):
        yield os.path.normpath(f"{mount}/{path}")
        path = os.path.dirname(path)
    yield mount
