"""Landlock: restrict for good what this process may do with files. The tables are numbers of the kernel's interface."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Collection, Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
# These numbers are the same on all architectures.
_OPENAT2, _AT_FDCWD, _NO_SYMLINKS = 437, -100, 0x04
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE_DIR, _MAKE_FILE, _MAKE_LINK = 0b11 << 4, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
# The rights of the first version.
_V1_RIGHTS = (1 << 13) - 1
_ADDED_RIGHTS = {2: REFER, 3: TRUNCATE, 5: _IOCTL}
_TCP = 0b11
_SCOPES = 0b11
_READ = READ_FILE | READ_DIR
_WRITE = _READ | WRITE_FILE | _REMOVE | _MAKE_DIR | _MAKE_FILE | _MAKE_LINK | REFER | TRUNCATE
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | _IOCTL


def landlock_abi() -> int:
    """Return the version that this kernel supports; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE, None, 0, _VERSION)))


class Rules:
    """What this process will be allowed: only allowed paths may be read or written, and nothing executed.

    Paths are opened one by one as they are allowed, so that few descriptors are needed, and before the process gives up
    its user: an interpreter may lie below a folder that only its owner may enter. Raises OSError.
    """

    def __init__(self) -> None:
        self.version = landlock_abi()
        self._handled = _V1_RIGHTS | sum(right for since, right in _ADDED_RIGHTS.items() if since <= self.version)
        tcp, scopes = _TCP if self.version >= 4 else 0, _SCOPES if self.version >= 6 else 0
        attributes = struct.pack("=QQQ", self._handled, tcp, scopes)
        self._handle = _checked(_libc.syscall(_CREATE, attributes, len(attributes), 0))

    def allow(self, paths: Iterable[bytes], granted: Collection[bytes], *, write: bool) -> dict[bytes, OSError]:
        """Allow access below these paths. Return those that could not be opened, and why.

        On the way to a ``granted`` path no link is followed, because a plugin may have put it there a moment ago.
        """
        closed = {}
        for path in paths:
            try:
                handle = _open_without_links(path) if path in granted else os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                closed[path] = error
                continue
            try:
                self._add(handle, (_WRITE if write else _READ) & self._handled)
            finally:
                os.close(handle)
        return closed

    def restrict(self) -> None:
        """Apply the rules to this process, for good."""
        try:
            _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            _checked(_libc.syscall(_RESTRICT, self._handle, 0))
        finally:
            os.close(self._handle)

    def _add(self, handle: int, rights: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle))
        _checked(_libc.syscall(_ADD, self._handle, _PATH_BENEATH, rule, 0))


def _open_without_links(path: bytes) -> int:
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _NO_SYMLINKS)
    return _checked(_libc.syscall(_OPENAT2, _AT_FDCWD, path, how, len(how)))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
