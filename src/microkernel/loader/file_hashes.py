"""SHA-256 of large files, computed once as long as the file stays the same.

Digests are kept for later kernels in ``<cache>/microkernel/file-hashes``. A file is the same if device, inode, size,
and times of modification and change in nanoseconds are equal; programs cannot set the time of change.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from contextlib import suppress
from io import BufferedReader
from typing import Any

# Size in bytes below which reading a file is as fast as looking up its digest.
SMALLEST = 1 << 20
# Number of files remembered. Those not requested for the longest time are forgotten.
MOST = 10_000
# Nanoseconds after its last change for which a file may change again without a new time.
_SETTLED = 2_000_000_000


class FileHashes:
    """Digests of files, for any thread. ``file`` is where they are kept; empty to keep them in memory only."""

    def __init__(self, file: str = "") -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, str] | None = None

    def sha256(self, opened: BufferedReader) -> bytes:
        """Return the digest of an open file. Raises OSError."""
        found = os.fstat(opened.fileno())
        if found.st_size < SMALLEST:
            return _digest(opened)
        key = _key(found)
        with self._lock:
            known = self._read()
            if key in known:
                known[key] = known.pop(key)  # the most recently requested is forgotten last
                return bytes.fromhex(known[key])
        sha = _digest(opened)
        if _key(os.fstat(opened.fileno())) == key and time.time_ns() - _last_change(found) > _SETTLED:
            self._remember(key, sha.hex())
        return sha

    def _remember(self, key: str, sha: str) -> None:
        with self._lock:
            known = self._read()
            known[key] = sha
            while len(known) > MOST:
                del known[next(iter(known))]
            with suppress(OSError):  # it is computed again next time
                self._write({**_load(self._file), **known})

    def _read(self) -> dict[str, str]:
        if self._known is None:
            self._known = _load(self._file)
        return self._known

    def _write(self, hashes: dict[str, str]) -> None:
        if not self._file:
            return
        os.makedirs(os.path.dirname(self._file), 0o700, exist_ok=True)
        beside = f"{self._file}.{os.getpid()}"
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(dict(list(hashes.items())[-MOST:]), file)
        os.replace(beside, self._file)


def cache_file() -> str:
    """Return where this user's digests are kept; empty for a user without a home folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(folder, "microkernel", "file-hashes") if os.path.isabs(folder) else ""


def _load(path: str) -> dict[str, str]:
    """Load the digests; empty if others may write to the file or it has another format."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                return {}
            return _checked(json.load(file))
    except (OSError, ValueError, RecursionError):
        return {}


def _checked(loaded: Any) -> dict[str, str]:
    if not isinstance(loaded, dict):
        return {}
    return {key: sha for key, sha in loaded.items() if isinstance(sha, str) and _is_sha(sha)}


def _is_sha(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def _key(found: os.stat_result) -> str:
    parts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return ":".join(map(str, parts))


def _last_change(found: os.stat_result) -> int:
    return max(found.st_mtime_ns, found.st_ctime_ns)


def _digest(opened: BufferedReader) -> bytes:
    from hashlib import file_digest  # slow to load, so only where there is a plugin

    return file_digest(opened, "sha256").digest()
