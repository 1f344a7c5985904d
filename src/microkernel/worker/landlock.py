"""Landlock: what a process may do with files, from now on and for good. Its own tables are numbers of versions."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Collection, Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_OPENAT2, _AT_FDCWD, _NO_SYMLINKS = 437, -100, 0x04
"""The same on all machines."""
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE_DIR, _MAKE_FILE, _MAKE_LINK = 0b11 << 4, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_FIRST = (1 << 13) - 1
"""What the first version knows."""
_ADDED = {2: REFER, 3: TRUNCATE, 5: _IOCTL}
_TCP = 0b11
_SCOPES = 0b11
_READ = READ_FILE | READ_DIR
_WRITE = _READ | WRITE_FILE | _REMOVE | _MAKE_DIR | _MAKE_FILE | _MAKE_LINK | REFER | TRUNCATE
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | _IOCTL


def abi() -> int:
    """The version this kernel has; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE, None, 0, _VERSION)))


def open_paths(paths: Iterable[bytes], granted: Collection[bytes] = ()) -> tuple[list[int], dict[bytes, OSError]]:
    """Descriptors that rules can be made of, and the paths of which there is none, and why. No link is followed on the
    way to what was ``granted``: a plugin may have put it there a moment ago."""
    handles, closed = [], {}
    for path in paths:
        try:
            handles.append(_open_without_links(path) if path in granted else os.open(path, os.O_PATH | os.O_CLOEXEC))
        except OSError as error:
            closed[path] = error
    return handles, closed


def _open_without_links(path: bytes) -> int:
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _NO_SYMLINKS)
    return _checked(_libc.syscall(_OPENAT2, _AT_FDCWD, path, how, len(how)))


def restrict(readable: Iterable[int], writable: Iterable[int]) -> int:
    """Nothing but these may be read, nothing but those written, nothing executed. Closes all these descriptors. The
    version. Raises OSError."""
    version = abi()
    handled = _FIRST | sum(right for since, right in _ADDED.items() if since <= version)
    attributes = struct.pack("=QQQ", handled, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    rules = _checked(_libc.syscall(_CREATE, attributes, len(attributes), 0))
    try:
        for handles, rights in ((readable, _READ), (writable, _WRITE)):
            for handle in handles:
                _allow(rules, handle, rights & handled)
        _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc.syscall(_RESTRICT, rules, 0))
    finally:
        os.close(rules)
    return version


def _allow(rules: int, handle: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(handle).st_mode):
        rights &= _OF_FILES
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle))
    _checked(_libc.syscall(_ADD, rules, _PATH_BENEATH, rule, 0))
    os.close(handle)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
