"""What a plugin's files take on the disk: those in its folders, and those that only it still has open."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress

_BLOCK = 512
_LEAST = 4096
"""An empty file and a folder take something too."""
_BEYOND = 1 << 62
"""What hides from being counted: folders too deep for a path, or closed to us."""


def disk_used(folders: Sequence[str], pid: int, file_size: int, most: int) -> int:
    """Bytes; beyond ``most`` it is not counted to the end. ``file_size``: the most that one file may have; so much is
    taken for one that is mapped, and nothing else."""
    below = sum(_below(folder, most) for folder in folders)
    return below + _unlinked(pid) + _mapped(pid, folders) * max(file_size, _LEAST)


def _below(folder: str, most: int) -> int:
    used, left = 0, [folder]
    while left and used <= most:
        try:
            with os.scandir(left.pop()) as entries:
                used += _counted(entries, left, most)
        except OSError as error:  # what went meanwhile takes nothing
            used += 0 if error.errno in (errno.ENOENT, errno.ENOTDIR) else _BEYOND
    return used


def _counted(entries: Iterable[os.DirEntry[str]], folders: list[str], most: int) -> int:
    used = 0
    for entry in entries:
        if used > most:
            break
        with suppress(FileNotFoundError):
            used += _size(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
    return used


def _size(found: os.stat_result) -> int:
    return max(found.st_blocks * _BLOCK, _LEAST)


def _unlinked(pid: int) -> int:
    used = 0
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{descriptor}")
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                    used += found.st_blocks * _BLOCK
    return used


def _mapped(pid: int, folders: Sequence[str]) -> int:
    """How many files are still there only because they are mapped."""
    files = set()
    with suppress(OSError), open(f"/proc/{pid}/maps", errors="surrogateescape") as maps:
        for line in maps:
            if line.endswith(" (deleted)\n") and any(f" {folder}/" in line for folder in folders):
                files.add(tuple(line.split(maxsplit=5)[3:5]))
    return len(files)
