"""One writer of a file at a time, whatever others do with locks of their own.

Whoever may read a folder can take a lock of the system on it and keep it, a plugin too. So this lock is on a file in
the user's cache folder, which no plugin is granted; and it is never waited for without end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0
"""Seconds; to write an approval takes some milliseconds."""
_PAUSES = (0.005, 0.1)


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold the lock of the file at ``path``.

    Raises TimeoutError if another program holds it for longer than PATIENCE; OSError if the file's folder is missing.
    """
    handle = _guard(path)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _guard(path: str) -> int:
    """A user without a cache folder has the lock on the file's own."""
    own = os.path.dirname(path)
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    try:
        private = os.path.join(folder, "microkernel", "locks") if os.path.isabs(folder) else ""
        os.makedirs(private, 0o700, exist_ok=True)
        return os.open(
            os.path.join(private, name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
    except OSError:
        return os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _lock(handle: int) -> None:
    until, (pause, longest) = time.monotonic() + PATIENCE, _PAUSES
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError from None
            time.sleep(pause)
            pause = min(2 * pause, longest)
        else:
            return
