"""Read small files of ``/proc`` without releasing the interpreter's lock around each system call.

A measurement of one process reads ten of them. Where another thread computes, Python gives the lock back only after a
switch interval of 5 ms, so that thirty system calls took 150 ms. These files take the system some ten microseconds,
and no lock that the process itself can hold for long. A file whose reading can wait for the process, because it locks
the process's memory, is read with ``may_wait=True``: it releases the interpreter's lock twice.
"""

from __future__ import annotations

import ctypes
import os

_MAX_SIZE = 64 * 1024
_MAX_LINK = 256
_FLAGS = os.O_RDONLY | os.O_CLOEXEC


class _Calls:
    """System calls, through one of the two loaders of ctypes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.open, self.read, self.readlink = library.open, library.read, library.readlink
        self.open.argtypes = (ctypes.c_char_p, ctypes.c_int)
        self.read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        self.readlink.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
        self.read.restype = self.readlink.restype = ctypes.c_ssize_t
        self.close = library.close


# Keeps the interpreter's lock during a call.
_keeping_lock = _Calls(ctypes.PyDLL(None, use_errno=True))
# Releases the interpreter's lock during a call.
_releasing_lock = _Calls(ctypes.CDLL(None, use_errno=True))


def read_file(pid: int, name: str, *, may_wait: bool = False) -> bytes:
    """Return the first 64 KiB of ``/proc/<pid>/<name>``. Raises OSError if the process has ended."""
    calls = _releasing_lock if may_wait else _keeping_lock
    path = f"/proc/{pid}/{name}"
    descriptor = calls.open(os.fsencode(path), _FLAGS)
    if descriptor < 0:
        raise _error(path)
    try:
        buffer = ctypes.create_string_buffer(_MAX_SIZE)
        length = calls.read(descriptor, buffer, _MAX_SIZE)
        if length < 0:
            raise _error(path)
        return ctypes.string_at(buffer, length)
    finally:
        _keeping_lock.close(descriptor)


def read_link(process: int | str, name: str) -> bytes:
    """Return where the link ``/proc/<process>/<name>`` leads; ``process`` is a pid or ``self``. Raises OSError."""
    path = f"/proc/{process}/{name}"
    buffer = ctypes.create_string_buffer(_MAX_LINK)
    length = _keeping_lock.readlink(os.fsencode(path), buffer, _MAX_LINK)
    if length < 0:
        raise _error(path)
    return ctypes.string_at(buffer, length)


def stat_fields(pid: int) -> list[bytes]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on. Raises OSError if the process has exited.

    The fields before are the pid and the name, which the process chooses itself and which may contain anything.
    """
    return read_file(pid, "stat").rpartition(b")")[2].split()


def _error(path: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), path)
