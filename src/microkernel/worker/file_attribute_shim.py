"""``os.chmod``, ``os.fchmod`` and ``os.utime`` where the system refuses them: the kernel performs them for the worker.

It does so below the plugin's data folder and ``TMPDIR`` only, and without the bits that make a program run as its
owner. So ``shutil.copy``, ``Path.chmod``, ``Path.touch`` and ``tarfile`` work; C code that changes modes does not.
``os.truncate`` with a path opens the file and truncates it by its descriptor, which the system allows. ``os.chown`` of
the worker's file to the owner and group that it already has changes nothing, so it is not an error.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

from microkernel.wire.codec import decode, encode

_MAX_PATH = 4096
_NANO = 10**9


class FileRequests:
    """Sends requests to the kernel, one at a time. On any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._numbers = count(1)

    def ask(self, shown: Any, *request: Any) -> None:
        """Wait until the request is done. Raises OSError with ``shown`` as the file's name."""
        with self._lock:
            self._end.send(encode([next(self._numbers), *request]))
            answer = self._end.recv(_MAX_PATH)
        _, code, text = decode(answer) if answer else (0, errno.EPIPE, "the kernel has ended")
        if code:
            raise OSError(code, text, shown)

    def chmod(self, path: Any, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        self.ask(path, "chmod", *_target(path, dir_fd), stat.S_IMODE(mode))

    def fchmod(self, fd: int, mode: int) -> None:
        self.ask(None, "chmod", *_target(fd, None), stat.S_IMODE(mode))

    def utime(
        self,
        path: Any,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        if isinstance(path, int) and not follow_symlinks:
            raise ValueError("utime: cannot use fd and follow_symlinks together")
        target = _target(path, dir_fd, follow_symlinks)
        self.ask(path, "utime", *target, _in_nanoseconds(times, ns), not follow_symlinks)


def truncate(path: Any, length: int) -> None:
    """Like ``os.truncate``. A file that Landlock lets a plugin open for writing may be truncated."""
    if isinstance(path, int):
        os.ftruncate(path, length)
        return
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(handle, length)
    finally:
        os.close(handle)


def chown(path: Any, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    """Like ``os.chown`` for an ordinary user. ``tarfile`` calls it for each member if its user is root."""
    found = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    if found.st_uid != os.geteuid() or uid not in (-1, found.st_uid) or gid not in (-1, found.st_gid):
        raise PermissionError(errno.EPERM, "no plugin at this level can give a file to another owner or group", path)


def lchown(path: Any, uid: int, gid: int) -> None:
    chown(path, uid, gid, follow_symlinks=False)


def fchown(fd: int, uid: int, gid: int) -> None:
    chown(fd, uid, gid)


def install(end: socket.socket) -> None:
    """Replace the functions of ``os`` for all code of this process."""
    asking = FileRequests(end)
    own: dict[str, Callable[..., object]] = {
        "chmod": asking.chmod, "fchmod": asking.fchmod, "utime": asking.utime, "truncate": truncate,
        "chown": chown, "lchown": lchown, "fchown": fchown,
    }  # fmt: skip
    for name, function in own.items():
        for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if getattr(os, name) in supporting:
                supporting.add(function)
        setattr(os, name, function)


def _target(path: Any, dir_fd: int | None, follow: bool = True) -> tuple[bytes, list[int]]:
    """Return the path without links, since the kernel follows none, and for a descriptor the file's device and
    inode."""
    if isinstance(path, int):
        found = os.fstat(path)
        return os.readlink(b"/proc/self/fd/%d" % path), [found.st_dev, found.st_ino]
    base = b"" if dir_fd is None else os.readlink(b"/proc/self/fd/%d" % dir_fd)
    whole = os.path.abspath(os.path.join(base, os.fsencode(path)))
    folder, name = os.path.split(whole)
    real = os.path.realpath(whole) if follow else os.path.join(os.path.realpath(folder), name)
    if len(real) > _MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    return real, []


def _in_nanoseconds(times: Any, ns: Any) -> list[int]:
    if ns is not None:
        return [_whole(each) for each in _pair(ns, "ns")]
    if times is not None:
        return [_nanoseconds(each) for each in _pair(times, "times")]
    return []


def _pair(value: Any, name: str) -> Any:
    if not isinstance(value, tuple) or len(value) != 2:
        kinds = "a tuple of two ints" if name == "ns" else "either a tuple of two ints or None"
        raise TypeError(f"utime: '{name}' must be {kinds}")
    return value


def _whole(value: Any) -> int:
    whole = value.__index__()
    if not -(1 << 63) < whole < 1 << 63:
        raise OverflowError("timestamp out of range for platform time_t")
    return int(whole)


def _nanoseconds(seconds: Any) -> int:
    if isinstance(seconds, float):
        whole = int(seconds // 1)
        return _whole(whole * _NANO + int((seconds % 1) * _NANO))
    return _whole(seconds.__index__() * _NANO)
