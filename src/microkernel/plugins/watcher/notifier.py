"""Notifications of changes in folders. The only module that uses watchfiles."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

from watchfiles._rust_notify import RustNotify

from microkernel.errors import valid_text

# Milliseconds of changes that are collected into one notification.
_BURST = 10
# watchfiles polls at this interval in milliseconds: the short one while files are being edited, since it costs 1 % of a
# core; otherwise a change is noticed about 20 ms later.
_AWAKE, _DOZING = 1, 20
_UNDECODABLE = "Unable to decode path"
# The error with which watchfiles ends when a file changes whose name is not UTF-8.
_NO_WATCHES = "the limit of inotify watches is reached, so that not all folders are watched"
# Seconds since the last change during which files count as being edited.
_AT_WORK = 300.0


class Notifier:
    """Waits for changes, on one thread. ``wake`` ends a wait from any other thread.

    The waiting thread clears ``wake`` and must check the files itself, because watchfiles then discards its changes.
    """

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._folders: frozenset[str] = frozenset()
        self._notify: RustNotify | None = None
        # Folders whose path is not UTF-8, which watchfiles does not support, by the alias path under which they are
        # watched.
        self._aliases: dict[str, str] = {}
        self._descriptors: list[int] = []
        self._busy_until = time.monotonic() + _AT_WORK

    def watch_folders(self, folders: Iterable[str], *, anew: bool = False) -> None:
        """Watch exactly these folders, without their subfolders.

        With ``anew`` they are watched again even if the names are the same, because one may be another folder now.

        Raises OSError if the system refuses some; the others are watched until the next call.
        """
        requested = frozenset(folder for folder in folders if os.path.isdir(folder) and os.access(folder, os.R_OK))
        if requested == self._folders and not anew:
            return
        self.close()  # first, because its watches count towards the limit
        if not requested:
            return
        paths = sorted(map(self._alias, requested))
        try:
            self._notify = _notifier(paths)
            self._folders = requested
        except FileNotFoundError:
            raise
        except (RuntimeError, OSError) as error:
            self._notify = _notifier(paths, all_of_them=False)
            raise OSError(_words_of(error)) from None

    def _alias(self, folder: str) -> str:
        if valid_text(folder) == folder:
            return folder
        self._descriptors.append(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        alias = f"/proc/self/fd/{self._descriptors[-1]}"
        self._aliases[alias] = folder
        return alias

    def wait(self, seconds: float | None) -> set[str]:
        """Return the changed paths.

        Returns none if woken, after ``seconds``, or if the name of a changed file is not UTF-8; in that case ``wake``
        is set too, and the folders must be watched again.

        Raises OSError if the library cannot continue; ``watch_folders`` then starts over.
        """
        if self._notify is None:
            self._wake.wait(seconds)
            return set()
        now = time.monotonic()
        step = _AWAKE if now < self._busy_until or seconds is not None else _DOZING
        most = _AT_WORK if seconds is None and step == _AWAKE else seconds
        try:
            came = self._notify.watch(_BURST, step, 0 if most is None else max(1, int(most * 1000)), self._wake)
        except RuntimeError as error:
            self.close()
            if _UNDECODABLE not in str(error):
                raise OSError(str(error)) from None
            self._wake.set()
            return set()
        if isinstance(came, str):
            return set()
        self._busy_until = time.monotonic() + _AT_WORK
        return {self._real(path) for _, path in came}

    def _real(self, path: str) -> str:
        if path in self._aliases:
            return self._aliases[path]
        folder, name = os.path.split(path)
        return os.path.join(self._aliases.get(folder, folder), name)

    def close(self) -> None:
        if self._notify is not None:
            self._notify.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._notify, self._folders, self._aliases, self._descriptors = None, frozenset(), {}, []


def _notifier(paths: list[str], *, all_of_them: bool = True) -> RustNotify | None:
    """Create the watchfiles object.

    Raises OSError for a folder that cannot be watched, RuntimeError if none can. Without ``all_of_them`` such folders
    are skipped silently, and None is returned if none can be watched.
    """
    try:
        return RustNotify(paths, False, False, 300, False, not all_of_them)
    except (RuntimeError, OSError):
        if all_of_them:
            raise
        return None


def _words_of(error: Exception) -> str:
    words = str(error)
    return _NO_WATCHES if "watch limit" in words else words
