"""The watched files: which exist, and whether their content has changed."""

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

# Size in bytes above which a file is not read; size and time must suffice.
_LARGE = 8 << 20

# As of the loader.
_DEEPEST = 64
_MOST_FOLDERS = 20_000

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Survey:
    """The places to watch. ``whole``: folders of plugins, of which each file matters. ``bare``: folders in which
    plugins may appear. ``single``: individual files. ``above``: folders in which one of the others may reappear."""

    whole: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    single: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()

    @property
    def folders(self) -> frozenset[str]:
        """Return all folders to watch."""
        return self.whole | self.bare | self.above | {os.path.dirname(path) for path in self.single}

    def is_relevant(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if path in self.single or folder in self.whole:
            return not is_noise(name)
        return folder in self.bare and may_begin(name)

    def files(self) -> Iterator[str]:
        """Return the relevant files that exist now."""
        yield from (path for path in self.single if os.path.lexists(path))
        for folder in (*self.whole, *self.bare):
            yield from (path for path in _listed(folder) if self.is_relevant(path) and os.path.isfile(path))


def survey(places: Iterable[str], plugins: Collection[str]) -> Survey:
    """Determine where to watch. Places and plugins are absolute paths; entry points that are not loaded are skipped."""
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
    """Return the target of a path.

    A path with more links than the system follows leads nowhere; only its folder is resolved, because Python would
    follow each link with a system call, for every file of a long chain.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _beside(path)
    return os.path.realpath(path)


def _beside(path: str) -> str:
    """Return the path with its folder resolved, which is the name that the system reports for changes."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def aliases(path: str) -> tuple[str, str]:
    """Return the names under which changes of a file or folder are reported: its own, and that of its link target."""
    return _beside(path), real(path)


def _nearest(folder: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _tree(folder: str) -> Iterator[str]:
    """Return the folder and those below, limited like a plugin: the loader refuses larger ones. ``os.walk`` is not used
    because it recurses for each depth in Python 3.11."""
    pending = [(folder, 0)]
    for _ in range(_MOST_FOLDERS):
        if not pending:
            return
        path, depth = pending.pop()
        yield path
        if depth < _DEEPEST:
            pending += [(each, depth + 1) for each in _inner(path)]


def _inner(folder: str) -> list[str]:
    """Return the subfolders without links; empty for a folder that cannot be read or has just gone."""
    try:
        with os.scandir(folder) as entries:
            inner = [each for each in entries if not is_noisy_folder(each.name) and each.is_dir(follow_symlinks=False)]
            return [each.path for each in inner]
    except OSError:
        return []


def _folders(folder: str) -> Iterator[str]:
    """Return the folders in which a plugin may be, also behind links."""
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
        return []  # removed meanwhile; the notifier reports it


class FileDigests:
    """The content of each file when it was last recorded."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Stamp, bytes]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._seen

    def known(self) -> list[str]:
        return list(self._seen)

    def digest(self, path: str) -> str:
        """Return the recorded SHA-256 in hexadecimal; empty if the file is not recorded."""
        return self._seen[path][1].hex() if path in self._seen else ""

    @staticmethod
    def stamp(path: str) -> Stamp | None:
        """Return inode, size and times of a regular file; None if there is none."""
        return _stamp(path)

    def below(self, folder: str) -> list[str]:
        """Return the recorded files in a folder that may no longer exist."""
        return [path for path in self._seen if path.startswith(folder + os.sep)]

    def check(self, path: str) -> ChangeStatus:
        """Compare a file with its record. Its content is read only if its stamp has changed."""
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
        """Record the present content of a file."""
        stamp = _stamp(path)
        if stamp is not None:
            self._seen[path] = (stamp, _digest(_read(path, stamp), stamp))

    def forget(self, path: str) -> None:
        self._seen.pop(path, None)


def _stamp(path: str) -> Stamp | None:
    """Return the stamp of a regular file; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: str, stamp: Stamp) -> bytes | None:
    """Return the content; None if the file is too large or cannot be read, which the kernel reports."""
    try:
        # A pipe may have replaced the file, and opening it must not block.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            is_readable = stat.S_ISREG(os.fstat(file.fileno()).st_mode) and stamp[1] <= _LARGE
            return file.read(_LARGE) if is_readable else None
    except OSError:
        return None


def _digest(data: bytes | None, stamp: Stamp) -> bytes:
    return hashlib.sha256(repr(stamp[:3]).encode() if data is None else data).digest()
