"""Lets one writer at a time change a file, whatever other programs do with their locks.

Any program that may read a folder, including a plugin, can lock it and keep the lock. So this lock is on a file in the
user's cache folder, which no plugin is granted, and waiting for it has a timeout.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Timeout in seconds. Writing an approval takes some milliseconds.
PATIENCE = 5.0
_PAUSES = (0.005, 0.1)


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold the lock for the file at ``path``. Raises TimeoutError if another program holds it for longer than
    PATIENCE, OSError if the file's folder does not exist."""
    handle = _guard(path)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _guard(path: str) -> int:
    """Return a descriptor to lock: a file in the cache folder, or the target's own folder for a user without one."""
    from hashlib import sha256  # slow to load, so only where an approval is written

    own = os.path.dirname(path)
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = sha256(os.fsencode(path)).hexdigest()[:32]
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
