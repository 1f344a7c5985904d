"""Change the mode and times of files for a confined worker, below the plugin's own folders only.

The system has no rule that allows ``chmod`` and ``utime`` in some folders only, so the worker's filter refuses them and
the kernel performs them. The kernel may do more than the worker, so it trusts nothing that the worker can change: it
opens the path name by name, follows no link, and acts on the very file that it has checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from functools import partial

from microkernel.errors import KernelError
from microkernel.hosts.confined.request_socket import Answer, RequestSocket
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

_MODE = 0o777
_LATEST = 1 << 63
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSED = "the kernel changes modes and times of files only below the plugin's data folder and TMPDIR"

# Number of the request, ``chmod``, path, device and inode of the file (empty if it was named by its path), mode.
Chmod = tuple[int, str, bytes, list[int], int]
# Number, ``utime``, path, device and inode as above, times of access and modification in nanoseconds (empty for now),
# and whether a link itself is meant.
Utime = tuple[int, str, bytes, list[int], list[int], bool]


class FileAttributes(RequestSocket):
    """Answers requests for ``chmod`` and ``utime``. ``folders``: the plugin's own, as they are when it starts."""

    what = "change of a file"
    max_request = 8192
    max_concurrent = 2

    def __init__(self, folders: Iterable[str], reactor: Reactor, malformed: Callable[[KernelError], object]) -> None:
        super().__init__(reactor, malformed)
        self._folders = [OwnFolder(folder) for folder in folders if os.path.isdir(folder)]

    def handle_request(self, data: bytes) -> None:
        match codec.decode(data):
            case [_, "chmod", *_]:
                chmod: Chmod = codec.decode(data, Chmod)
                number, _, path, identity, mode = chmod
                is_link = False
                change: Callable[[str], object] = partial(set_mode, mode=mode & _MODE)
            case [_, "utime", *_]:
                utime: Utime = codec.decode(data, Utime)
                number, _, path, identity, times, is_link = utime
                change = partial(set_times, times=_checked_times(times))
            case _:
                raise ValueError("it is neither chmod nor utime")
        self.work(number, partial(self._attempt, path, identity, is_link, change))

    def _attempt(self, path: bytes, identity: list[int], is_link: bool, change: Callable[[str], object]) -> Answer:
        """Change a file. A failure is returned as the answer."""
        try:
            self._change(path, identity, is_link, change)
        except OSError as error:
            return Answer(error.errno or errno.EIO, error.strerror or str(error))
        except ValueError as error:  # a path that contains NUL
            return Answer(errno.EINVAL, str(error))
        return Answer()

    def _change(self, path: bytes, identity: list[int], is_link: bool, change: Callable[[str], object]) -> None:
        folder = next((folder for folder in self._folders if folder.is_above(path)), None)
        if folder is None:
            raise PermissionError(errno.EPERM, _REFUSED)
        handle = folder.open(path)
        try:
            _check(os.fstat(handle), identity, is_link)
            change(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)


class OwnFolder:
    """A folder of a plugin, identified by the inode that the path has now."""

    def __init__(self, path: str) -> None:
        self._path = os.fsencode(os.path.realpath(path))
        self._identity = _identity_of(os.stat(self._path))

    def is_above(self, path: bytes) -> bool:
        return path.startswith(self._path + b"/")

    def open(self, path: bytes) -> int:
        """Open a file below this folder as O_PATH, so it can only be examined. Raises OSError."""
        at = self._opened()
        *above, last = path[len(self._path) + 1 :].split(b"/")
        try:
            for name in above:
                below = os.open(_checked_name(name), _STEP | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            return os.open(_checked_name(last), _STEP, dir_fd=at)
        finally:
            os.close(at)

    def _opened(self) -> int:
        at = os.open(self._path, _STEP | os.O_DIRECTORY)
        if _identity_of(os.fstat(at)) != self._identity:
            os.close(at)
            raise PermissionError(errno.EPERM, "the plugin's folder is no longer the one that it started with")
        return at


def set_mode(path: str, mode: int) -> None:
    os.chmod(path, mode)


def set_times(path: str, times: list[int]) -> None:
    if times:
        os.utime(path, ns=(times[0], times[1]))
    else:
        os.utime(path)


def _checked_name(name: bytes) -> bytes:
    if name in (b"", b".", b".."):
        raise PermissionError(errno.EPERM, _REFUSED)
    return name


def _checked_times(times: list[int]) -> list[int]:
    if len(times) not in (0, 2) or not all(-_LATEST < each < _LATEST for each in times):
        raise ValueError("these are not two times")
    return times


def _check(found: os.stat_result, identity: list[int], is_link: bool) -> None:
    """Raise OSError unless this is a file or folder that lies in the plugin's folders only.

    A file with a second name may belong to another folder, from which the plugin has linked it.
    """
    if identity and identity != _identity_of(found):
        raise FileNotFoundError(errno.ENOENT, "the open file has another name by now, or none")
    kind = stat.S_IFMT(found.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR) and not (is_link and kind == stat.S_IFLNK):
        raise PermissionError(errno.EPERM, "only files and folders can be changed")
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the file belongs to another user")
    if kind != stat.S_IFDIR and found.st_nlink != 1:
        raise PermissionError(errno.EPERM, "the file has a second name (a hard link), which may lie elsewhere")


def _identity_of(found: os.stat_result) -> list[int]:
    return [found.st_dev, found.st_ino]
