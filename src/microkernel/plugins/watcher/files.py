"""The files that matter: which there are, what is in them, and whether that is something else than before."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .rules import ENTRIES, is_doubtful, is_noise, is_noisy_folder, may_begin

ChangeStatus = Literal["same", "changed", "doubtful", "gone"]

_LARGE = 8 << 20
"""Bytes above which a file is not read: its size and time have to do."""

# As of the loader.
_DEEPEST = 64
_MOST_FOLDERS = 20_000

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Survey:
    """``whole``: folders of plugins, of which each file matters. ``bare``: folders in which a plugin may come to be.
    ``single``: files that matter by themselves. ``above``: folders to watch for one of the others to come back."""

    whole: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    single: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()

    @property
    def folders(self) -> frozenset[str]:
        """All that have to be watched."""
        return self.whole | self.bare | self.above | {os.path.dirname(path) for path in self.single}

    def is_relevant(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if path in self.single or folder in self.whole:
            return not is_noise(name)
        return folder in self.bare and may_begin(name)

    def files(self) -> Iterator[str]:
        """Those that are there now."""
        yield from (path for path in self.single if os.path.lexists(path))
        for folder in (*self.whole, *self.bare):
            yield from (path for path in _listed(folder) if self.is_relevant(path) and os.path.isfile(path))


def survey(places: Iterable[str], plugins: Collection[str]) -> Survey:
    """Where to look. Places and plugins are absolute paths; nothing of an entry point that is not loaded."""
    whole: set[str] = set()
    bare: set[str] = set()
    single: set[str] = set()
    above: set[str] = set()
    plugins = frozenset(plugins)
    for path in (*plugins, *(place for place in places if place not in plugins)):
        target = real(path)
        if not os.path.isabs(path):
            continue
        if not os.path.isdir(target):
            single.update((_beside(path), target))
        elif path in plugins:
            whole.update(_tree(target))
        else:
            bare.add(target)
            for folder in _folders(target):
                (whole if _has_entry(folder) else bare).update(_tree(folder) if _has_entry(folder) else (folder,))
    for path in single:
        above.add(_nearest(os.path.dirname(path)))
    single = {path for path in single if os.path.isdir(os.path.dirname(path))}
    return Survey(frozenset(whole), frozenset(bare - whole), frozenset(single), frozenset(above))


def real(path: str) -> str:
    """Return where a path leads. One with more links than the system follows leads nowhere, and is returned with its
    folder alone resolved: Python would follow each of them, by a call of its own, for every file of a long chain."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _beside(path)
    return os.path.realpath(path)


def _beside(path: str) -> str:
    """The path itself, its folder being the real one: so the system names it when it changes."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def aliases(path: str) -> tuple[str, str]:
    """The names under which changes of a file or folder are heard of: its own, and that of what it is a link to."""
    return _beside(path), real(path)


def _nearest(folder: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _tree(folder: str) -> Iterator[str]:
    """The folder and those in it, as deep and as many as a plugin may have: the loader refuses what has more. Not by
    ``os.walk``, which in Python 3.11 calls itself for each depth."""
    pending = [(folder, 0)]
    for _ in range(_MOST_FOLDERS):
        if not pending:
            return
        path, depth = pending.pop()
        yield path
        if depth < _DEEPEST:
            pending += [(each, depth + 1) for each in _inner(path)]


def _inner(folder: str) -> list[str]:
    """No links; nothing of a folder that cannot be read, or has just gone."""
    try:
        with os.scandir(folder) as entries:
            inner = [each for each in entries if not is_noisy_folder(each.name) and each.is_dir(follow_symlinks=False)]
            return [each.path for each in inner]
    except OSError:
        return []


def _folders(folder: str) -> Iterator[str]:
    """Those in which a plugin may lie; behind links too."""
    names = ((path, os.path.basename(path)) for path in _listed(folder))
    return (real(path) for path, name in names if _may_hold(path, name))


def _may_hold(path: str, name: str) -> bool:
    return name[0] not in "_." and not is_noisy_folder(name) and os.path.isdir(path)


def _has_entry(folder: str) -> bool:
    return any(os.path.lexists(os.path.join(folder, entry)) for entry in ENTRIES)


def _listed(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except OSError:
        return []  # it has gone since, and whoever watches it is told


class FileDigests:
    """What was in each file when it was last taken note of."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Stamp, bytes]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._seen

    def known(self) -> list[str]:
        return list(self._seen)

    def digest(self, path: str) -> str:
        """SHA-256 in hexadecimal, of what was taken note of."""
        return self._seen[path][1].hex() if path in self._seen else ""

    @staticmethod
    def stamp(path: str) -> Stamp | None:
        """Inode, size, and times of a regular file; None where there is none."""
        return _stamp(path)

    def below(self, folder: str) -> list[str]:
        """What is known in a folder that may be gone."""
        return [path for path in self._seen if path.startswith(folder + os.sep)]

    def check(self, path: str) -> ChangeStatus:
        """How a file is, against what is known of it. Reads it only if something was done to it."""
        stamp = _stamp(path)
        if stamp is None:
            return "gone" if path in self._seen else "same"
        known = self._seen.get(path)
        if known is not None and known[0] == stamp:
            return "same"
        data = _read(path, stamp)
        if known is not None and known[1] == _digest(data, stamp):
            self._seen[path] = (stamp, known[1])
            return "same"
        return "doubtful" if data is not None and is_doubtful(path, data) else "changed"

    def record(self, path: str) -> None:
        """Take note of what is in it now."""
        stamp = _stamp(path)
        if stamp is not None:
            self._seen[path] = (stamp, _digest(_read(path, stamp), stamp))

    def forget(self, path: str) -> None:
        self._seen.pop(path, None)


def _stamp(path: str) -> Stamp | None:
    """None where no regular file is."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: str, stamp: Stamp) -> bytes | None:
    """None for what is too large, or cannot be read: the kernel says so when it tries to."""
    try:
        # A pipe may have taken the file's place since: it must not be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            is_readable = stat.S_ISREG(os.fstat(file.fileno()).st_mode) and stamp[1] <= _LARGE
            return file.read(_LARGE) if is_readable else None
    except OSError:
        return None


def _digest(data: bytes | None, stamp: Stamp) -> bytes:
    return hashlib.sha256(repr(stamp[:3]).encode() if data is None else data).digest()
