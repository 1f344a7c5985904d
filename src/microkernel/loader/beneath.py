"""Opens files below a folder and nothing else, whatever its links say.

A plugin's folder comes from its author, and a link in it may name any file that the kernel's user can read. So a path
is walked from one open folder to the next, and no system call follows a link: links are read, and followed here as long
as they stay below the folder. This does the work of ``openat2`` with ``RESOLVE_BENEATH``, a call that container
sandboxes often refuse. There is no gap between check and use, because the file that was checked is the open one. The
depth of the folder, the length of its paths and link targets, and the total number of steps are bounded, because each
step costs a system call.

The folder itself is opened by its path, links included, because the operator chose its location. Hard links cannot be
distinguished from files; whoever made one must have been able to read the file. Devices and pipes are not opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedReader
from itertools import takewhile
from types import TracebackType
from typing import NamedTuple

from microkernel.errors import PluginLoadError
from microkernel.loader.display import display_path

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# As many as Linux follows in one path.
_MOST_LINKS = 40
# Folders inside one another, below the root.
MOST_DEPTH = 64
# Bytes of a path below the root, and of a link's target; parts of a target.
MOST_PATH = 1_024
MOST_PARTS = 128
# Steps per Beneath: path components and link targets that were resolved.
MOST_STEPS = 200_000
# Steps that a link out of the folder counts for, because the number that the system takes is not known here.
_STEPS_OUTSIDE = 200


class LinkLeaves(OSError):
    """A path leads out of its folder; ``target`` is where the link points."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(errno.EXDEV, f"it links out of the plugin's directory, to {target}")
        self.name = name
        self.target = target


class NotRegular(OSError):
    """The path is not a regular file: opening a pipe would block, and a device would never end."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file")


class Folder(NamedTuple):
    """The content of one folder: its path below the root (empty for the root), the names of folders, of other
    entries, and of those among both that are links."""

    path: str
    folders: list[str]
    others: list[str]
    links: list[str]


class Beneath:
    """A folder from which files are opened by relative POSIX paths. A context manager.

    With ``follows``, files behind links out of the folder are opened too. ``leaving`` has the links found to lead out,
    with their targets.

    All methods raise PluginLoadError MK0140 if a path takes too many steps.
    """

    def __init__(self, root: str, *, follows: bool = False) -> None:
        self.root = root
        self.follows = follows
        self.leaving: dict[str, str] = {}
        self._way = _Way(root, os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> Beneath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._way.close()

    def open(self, name: str) -> BufferedReader:
        """Open a regular file. Raises OSError; LinkLeaves for a file outside, unless such links are followed."""
        try:
            folder, last = self._way.enter(name)
            return _regular(os.open(last, _FILE, dir_fd=folder))
        except LinkLeaves as left:
            self.leaving[name] = left.target
            if not self.follows:
                raise
            return open_regular(os.path.join(self.root, name))

    def stat(self, name: str) -> os.stat_result:
        """Return the status of the file a path leads to. Raises OSError; LinkLeaves, even if such links are
        followed."""
        folder, last = self._way.enter(name)
        return os.stat(last, dir_fd=folder, follow_symlinks=False)

    def leads_out(self, name: str) -> str:
        """Return the target of a link that leads out of the folder; empty for other paths, whether they exist or
        not."""
        try:
            self.stat(name)
        except LinkLeaves as left:
            return left.target
        except OSError:
            return ""
        return ""

    def folders(self) -> Iterator[Folder]:
        """Yield all folders, each before those in it; links are listed but not followed.

        A folder that the caller removes from ``Folder.folders`` is not entered. Raises OSError, with the whole path,
        for a folder that cannot be read.
        """
        pending = [""]
        while pending:
            found = self._listed(pending.pop())
            if found is not None:
                yield found
                inner = [name for name in found.folders if name not in found.links]
                pending += [f"{found.path}/{name}".lstrip("/") for name in sorted(inner, reverse=True)]

    def _listed(self, path: str) -> Folder | None:
        """Return the entries of a folder; None if it has just been removed."""
        self._check_path(path)
        try:
            here, _ = self._way.enter(f"{path}/.")
            handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            try:
                with os.scandir(handle) as entries:
                    return self._sorted_out(path, entries, handle)
            finally:
                os.close(handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            error.filename = os.path.join(self.root, path)
            raise

    def _check_path(self, path: str) -> None:
        if path.count("/") >= MOST_DEPTH:
            raise too_much(self.root, "folders inside one another", MOST_DEPTH)
        if len(os.fsencode(path)) > MOST_PATH:
            raise too_much(self.root, "bytes in a path", MOST_PATH)

    def _sorted_out(self, path: str, entries: Iterable[os.DirEntry[str]], handle: int) -> Folder:
        """Sort entries into folders and others. The system follows no link here before its target is known to be
        short."""
        found = Folder(path, [], [], [])
        for entry in entries:
            if entry.is_symlink():
                found.links.append(entry.name)
                with suppress(OSError):  # it was removed or replaced
                    self._way.check_target(os.readlink(entry.name, dir_fd=handle))
                is_folder = self._leads_to_folder(f"{path}/{entry.name}".lstrip("/"))
            else:
                is_folder = _is_folder(entry)
            (found.folders if is_folder else found.others).append(entry.name)
        return found

    def _leads_to_folder(self, link: str) -> bool:
        try:
            return stat.S_ISDIR(self.stat(link).st_mode)
        except LinkLeaves:
            self._way.count(_STEPS_OUTSIDE)
            return self.follows and os.path.isdir(os.path.join(self.root, link))
        except OSError:
            return False


def too_much(root: str, what: str, limit: int) -> PluginLoadError:
    return PluginLoadError("MK0140", path=display_path(root), what=what, most=limit)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


class _Way:
    """The open folders from the root to the end of the last path. The next path, which is often nearby, continues
    where the two differ."""

    def __init__(self, root: str, handle: int) -> None:
        self._root = root
        self._handles = [handle]
        # Names of the open folders below the root, after following links.
        self._parts: list[str] = []
        self._steps = 0
        self._name = ""
        self._left: list[str] = []
        self._links = 0
        self._target = ".."
        self._last = "."

    def enter(self, name: str) -> tuple[int, str]:
        """Return the descriptor of the folder that a path ends in, and the name in it."""
        self._name, self._links, self._target, self._last = name, 0, "..", "."
        parts = name.split("/")
        shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(self._parts, parts[:-1], strict=False)))
        self._close_below(shared)
        self._left = parts[shared:][::-1]
        while self._left:
            self.count(1)
            part = self._left.pop()
            if part == "..":
                self._go_up()
            elif part not in ("", "."):
                self._go_on(part)
        return self._handles[-1], self._last

    def count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise too_much(self._root, "steps along its paths and links", MOST_STEPS)

    def check_target(self, target: str) -> None:
        """Raise PluginLoadError MK0140 if the target of a link is too long."""
        if len(os.fsencode(target)) > MOST_PATH:
            raise too_much(self._root, "bytes in the target of a link", MOST_PATH)
        if target.count("/") >= MOST_PARTS:
            raise too_much(self._root, "parts in the target of a link", MOST_PARTS)

    def close(self) -> None:
        self._close_below(0)
        os.close(self._handles.pop())

    def _close_below(self, depth: int) -> None:
        del self._parts[depth:]
        while len(self._handles) > depth + 1:
            os.close(self._handles.pop())

    def _go_up(self) -> None:
        if not self._parts:
            raise LinkLeaves(self._name, self._target)
        self._close_below(len(self._parts) - 1)

    def _go_on(self, part: str) -> None:
        here = self._handles[-1]
        mode = os.stat(part, dir_fd=here, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            self._follow(os.readlink(part, dir_fd=here))
        elif any(self._left):
            if len(self._parts) == MOST_DEPTH:
                raise too_much(self._root, "folders inside one another", MOST_DEPTH)
            self._handles.append(os.open(part, _FOLDER, dir_fd=here))
            self._parts.append(part)
        else:
            self._last = part

    def _follow(self, target: str) -> None:
        self._links += 1
        self._target = target
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self.check_target(target)
        if target.startswith("/"):
            target = self._from_root(target)
            self._close_below(0)
        self._left += target.split("/")[::-1]

    def _from_root(self, target: str) -> str:
        """Return an absolute link target relative to the root, if it is inside the folder."""
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
