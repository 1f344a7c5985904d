"""Disk usage of a plugin: the files in its folders, and those that only its processes still hold open."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress

from microkernel.hosts.procfs.processes import lines_of, tasks_of

_BLOCK = 512
# A folder that was emptied and removed keeps the blocks of its names while it is open.
_WITH_BLOCKS = (stat.S_IFREG, stat.S_IFDIR)
# An empty file and a folder take something too.
_MIN_SIZE = 4096
# Counted for what cannot be measured: folders too deep for a path, or closed to the kernel.
_UNMEASURABLE = 1 << 62
# Entries between two steps of a measurement: some hundred microseconds.
_STEP = 128
# Files and folders of one plugin: measuring this many takes some 0.2 s.
MAX_ENTRIES = 50_000
# Mappings of one process, each a line to read. numpy and polars make some thousand.
MAX_MAPPINGS = 16_384

# Returns bytes; yields between steps of some hundred microseconds. Raises TooMany.
Measuring = Generator[None, None, int]


class TooMany(Exception):
    """There is more of something than is measured, since its worker could be checked only rarely. The text says of
    what."""

    def __init__(self, limit: int, what: str) -> None:
        super().__init__(f"over its bound: more than {limit:,} {what}")


def measure_disk(folders: Sequence[str], pid: int, file_size: int, limit: int) -> Measuring:
    """Return the bytes that files take. Beyond ``limit`` they are not all counted.

    ``file_size``: the size limit of one file. A mapped file without a name counts as that large, because its size
    cannot be found.
    """
    used, seen = 0, _Seen()
    for folder in folders:
        used += yield from _measure_below(os.path.realpath(folder), limit - used, seen)
        if used > limit:
            return used
    used += yield from _measure_unlinked(pid)
    mapped = yield from _count_mapped(pid, [os.fsencode(os.path.realpath(folder)) for folder in folders])
    return used + mapped * max(file_size, _MIN_SIZE)


def free_space(folders: Sequence[str]) -> list[int]:
    """Return the free bytes in each folder's file system; 0 if that is unknown."""
    return [_free_in(folder) for folder in folders]


def _free_in(folder: str) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bfree * found.f_frsize


def growth(before: Sequence[int], now: Sequence[int]) -> int:
    """Return the most that a plugin's files may have grown by, between two results of ``free_space``."""
    return sum(max(0, was - free) for was, free in zip(before, now, strict=False))


def is_in_memory(folders: Sequence[str]) -> bool:
    """Return whether files in one of these folders take memory, which a control group counts as memory."""
    devices = set()
    for folder in folders:
        with suppress(OSError):
            found = os.stat(folder).st_dev
            devices.add(f"{os.major(found)}:{os.minor(found)}".encode())
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as mounts:
        return any(line.split()[2] in devices and b" - tmpfs " in line for line in mounts)
    return False


class _Seen:
    """Counts the entries of all folders in one measurement."""

    def __init__(self) -> None:
        self._entries = 0

    def one_more(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise TooMany(MAX_ENTRIES, "files and folders")


def _measure_below(folder: str, limit: int, seen: _Seen) -> Measuring:
    used, left = 0, [folder]
    while left and used <= limit:
        try:
            entries = os.scandir(left.pop())
        except OSError as error:  # a folder that was removed meanwhile takes nothing
            used += 0 if error.errno in (errno.ENOENT, errno.ENOTDIR) else _UNMEASURABLE
            continue
        with entries:
            used += yield from _measure_entries(entries, left, limit - used, seen)
    return used


def _measure_entries(entries: Iterator[os.DirEntry[str]], folders: list[str], limit: int, seen: _Seen) -> Measuring:
    used = 0
    for count, entry in enumerate(entries):
        if used > limit:
            break
        seen.one_more()
        with suppress(FileNotFoundError):  # removed meanwhile
            used += _size(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
        if count % _STEP == 0:
            yield
    yield
    return used


def _size(found: os.stat_result) -> int:
    return max(found.st_blocks * _BLOCK, _MIN_SIZE)


def _measure_unlinked(pid: int) -> Measuring:
    """Measure open files and folders without a name. Each thread can have a separate table of descriptors."""
    found: dict[tuple[int, int], int] = {}
    for task in tasks_of(pid):
        folder = f"/proc/{pid}/task/{task}/fd"
        with suppress(OSError):  # the thread has exited
            for count, descriptor in enumerate(os.listdir(folder)):
                with suppress(OSError):  # closed meanwhile
                    about = os.stat(f"{folder}/{descriptor}")
                    if about.st_nlink == 0 and stat.S_IFMT(about.st_mode) in _WITH_BLOCKS:
                        found[about.st_dev, about.st_ino] = about.st_blocks * _BLOCK
                if count % _STEP == 0:
                    yield
        yield
    return sum(found.values())


def _count_mapped(pid: int, folders: Sequence[bytes]) -> Measuring:
    """Count the files that exist only because they are mapped."""
    files = set()
    for count, line in enumerate(lines_of(pid, "maps")):
        if count >= MAX_MAPPINGS:
            raise TooMany(MAX_MAPPINGS, "mappings of memory")
        if line.endswith(b" (deleted)") and any(b" " + folder + b"/" in line for folder in folders):
            files.add(tuple(line.split(maxsplit=5)[3:5]))
        if count % _STEP == 0:
            yield
    return len(files)
