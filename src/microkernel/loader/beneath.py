"""Opens what lies below a folder, and nothing else, whatever its links say.

A plugin's folder comes from its author: a link in it may name any file that the kernel's user can read. So a path is
walked from one open folder to the next, and no system call follows a link: links are read, and followed here as long
as they stay below the folder. What ``openat2`` does with ``RESOLVE_BENEATH`` is done without it, since sandboxes of
containers often refuse that call. There is no moment between a check and its use: what is read is what was opened.

The folder itself is opened by its path, links included: the operator has put it where it is. Hard links are not told
from files: to make one, its author must have been able to read the file. Devices and pipes are not opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from types import TracebackType
from typing import NamedTuple

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# As many as Linux follows in one path.
_MOST_LINKS = 40


class LinkLeaves(OSError):
    """A path leads out of its folder; ``target`` is where its link points."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(errno.EXDEV, f"it links out of the plugin's folder, to {target}")
        self.name = name
        self.target = target


class NotRegular(OSError):
    """A pipe would be waited for, a device would never end, a folder has no content."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file")


class Folder(NamedTuple):
    """What is in one folder: its path below the root, empty for the root itself; names of folders, of other entries,
    and of those among both that are links."""

    path: str
    folders: list[str]
    others: list[str]
    links: list[str]


class Beneath:
    """A folder from which files are opened, by relative POSIX paths. A context manager.

    ``follows``: a file behind a link that leaves is opened all the same. ``leaving`` has the links that were found to
    leave, with where they point.
    """

    def __init__(self, root: str, *, follows: bool = False) -> None:
        self.root = root
        self.follows = follows
        self.leaving: dict[str, str] = {}
        self._fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Beneath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def open(self, name: str) -> BufferedReader:
        """Open a regular file. Raises OSError; LinkLeaves for one outside, unless such links are followed."""
        walk = _Walk(self.root, self._fd, name)
        try:
            folder = walk.enter()
            return _regular(os.open(walk.last, _FILE, dir_fd=folder))
        except LinkLeaves as left:
            self.leaving[name] = left.target
            if not self.follows:
                raise
            return open_regular(os.path.join(self.root, name))
        finally:
            walk.close()

    def stat(self, name: str) -> os.stat_result:
        """Of what a path leads to. Raises OSError; LinkLeaves, also if such links are followed."""
        walk = _Walk(self.root, self._fd, name)
        try:
            folder = walk.enter()
            return os.stat(walk.last, dir_fd=folder, follow_symlinks=False)
        finally:
            walk.close()

    def leads_out(self, name: str) -> str:
        """Where a link points that leaves the folder; empty for what stays, whether there is anything or not."""
        try:
            self.stat(name)
        except LinkLeaves as left:
            return left.target
        except OSError:
            return ""
        return ""

    def folders(self) -> Iterator[Folder]:
        """All folders below, from the root on, each before those in it; links are listed, not followed. What is removed
        from ``Folder.folders`` is not entered. Raises OSError with the whole path for a folder that cannot be read."""
        pending = [""]
        while pending:
            found = self._listed(pending.pop())
            if found is not None:
                yield found
                inner = [name for name in found.folders if name not in found.links]
                pending += [f"{found.path}/{name}".lstrip("/") for name in sorted(inner, reverse=True)]

    def _listed(self, path: str) -> Folder | None:
        """None for a folder that has just gone."""
        walk = _Walk(self.root, self._fd, f"{path}/.")
        try:
            handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=walk.enter())
            try:
                with os.scandir(handle) as entries:
                    found = Folder(path, [], [], [])
                    for entry in entries:
                        (found.folders if _is_folder(entry) else found.others).append(entry.name)
                        if entry.is_symlink():
                            found.links.append(entry.name)
                    return found
            finally:
                os.close(handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            error.filename = os.path.join(self.root, path)
            raise
        finally:
            walk.close()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


class _Walk:
    """The way to one path: ``enter`` gives the descriptor of the folder that it ends in, and ``last`` is its name
    there."""

    def __init__(self, root: str, handle: int, name: str) -> None:
        self._root = root
        self._name = name
        self._handles = [handle]
        self._left = name.split("/")[::-1]
        self._links = 0
        self._target = ".."
        self.last = "."

    def enter(self) -> int:
        while self._left:
            part = self._left.pop()
            if part == "..":
                self._go_up()
            elif part not in ("", "."):
                self._go_on(part)
        return self._handles[-1]

    def close(self) -> None:
        while len(self._handles) > 1:
            os.close(self._handles.pop())

    def _go_up(self) -> None:
        if len(self._handles) == 1:
            raise LinkLeaves(self._name, self._target)
        os.close(self._handles.pop())

    def _go_on(self, part: str) -> None:
        here = self._handles[-1]
        mode = os.stat(part, dir_fd=here, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            self._follow(os.readlink(part, dir_fd=here))
        elif any(self._left):
            self._handles.append(os.open(part, _FOLDER, dir_fd=here))
        else:
            self.last = part

    def _follow(self, target: str) -> None:
        self._links += 1
        self._target = target
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            target = self._from_root(target)
            self.close()
        self._left += target.split("/")[::-1]

    def _from_root(self, target: str) -> str:
        """An absolute link into the folder itself stays in it."""
        for root in (self._root, os.path.realpath(self._root)):
            below = f"{root.rstrip('/')}/"
            if f"{target}/".startswith(below):
                return target[len(below) :] or "."
        raise LinkLeaves(self._name, target)


def open_regular(path: str) -> BufferedReader:
    """Open a file by its path, links included. Raises OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NotRegular
    return _regular(os.open(path, _FILE & ~os.O_NOFOLLOW))


def _regular(handle: int) -> BufferedReader:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegular
    return os.fdopen(handle, "rb")
