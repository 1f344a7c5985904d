"""What a plugin's files take on the disk: those in its folders, and those that only its processes still hold."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress

from microkernel.hosts._processes import lines_of, tasks_of

_BLOCK = 512
# An empty file and a folder take something too.
_LEAST = 4096
# Counted for what cannot be measured: folders too deep for a path, or closed to the kernel.
_UNMEASURABLE = 1 << 62
# Entries between two steps of a look: some hundred microseconds.
_STEP = 128

Measuring = Generator[None, None, int]
"""Returns bytes; yields between steps of some hundred microseconds."""


def measure_disk(folders: Sequence[str], pid: int, file_size: int, limit: int) -> Measuring:
    """Bytes that files take. Beyond ``limit`` they are not counted to the end.

    ``file_size`` is the most that one file may have; a file that is mapped and has no name counts as that large, since
    nothing tells its size.
    """
    used = 0
    for folder in folders:
        used += yield from _measure_below(os.path.realpath(folder), limit - used)
        if used > limit:
            return used
    used += yield from _measure_unlinked(pid)
    mapped = yield from _count_mapped(pid, [os.fsencode(os.path.realpath(folder)) for folder in folders])
    return used + mapped * max(file_size, _LEAST)


def is_in_memory(folders: Sequence[str]) -> bool:
    """Whether files in one of these take memory, which a control group counts as memory."""
    devices = set()
    for folder in folders:
        with suppress(OSError):
            found = os.stat(folder).st_dev
            devices.add(f"{os.major(found)}:{os.minor(found)}".encode())
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as mounts:
        return any(line.split()[2] in devices and b" - tmpfs " in line for line in mounts)
    return False


def _measure_below(folder: str, limit: int) -> Measuring:
    used, left = 0, [folder]
    while left and used <= limit:
        try:
            entries = os.scandir(left.pop())
        except OSError as error:  # what was removed meanwhile takes nothing
            used += 0 if error.errno in (errno.ENOENT, errno.ENOTDIR) else _UNMEASURABLE
            continue
        with entries:
            used += yield from _measure_entries(entries, left, limit - used)
    return used


def _measure_entries(entries: Iterator[os.DirEntry[str]], folders: list[str], limit: int) -> Measuring:
    used = 0
    for count, entry in enumerate(entries):
        if used > limit:
            break
        with suppress(FileNotFoundError):  # removed meanwhile
            used += _size(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
        if count % _STEP == 0:
            yield
    yield
    return used


def _size(found: os.stat_result) -> int:
    return max(found.st_blocks * _BLOCK, _LEAST)


def _measure_unlinked(pid: int) -> Measuring:
    """Files without a name that are open. Each thread can have a table of descriptors for itself."""
    found: dict[tuple[int, int], int] = {}
    for task in tasks_of(pid):
        folder = f"/proc/{pid}/task/{task}/fd"
        with suppress(OSError):  # the thread has ended
            for count, descriptor in enumerate(os.listdir(folder)):
                with suppress(OSError):  # closed meanwhile
                    about = os.stat(f"{folder}/{descriptor}")
                    if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                        found[about.st_dev, about.st_ino] = about.st_blocks * _BLOCK
                if count % _STEP == 0:
                    yield
        yield
    return sum(found.values())


def _count_mapped(pid: int, folders: Sequence[bytes]) -> Measuring:
    """How many files exist only because they are mapped."""
    files = set()
    for count, line in enumerate(lines_of(pid, "maps")):
        if line.endswith(b" (deleted)") and any(b" " + folder + b"/" in line for folder in folders):
            files.add(tuple(line.split(maxsplit=5)[3:5]))
        if count % _STEP == 0:
            yield
    return len(files)
