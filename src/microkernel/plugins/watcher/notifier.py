"""Hears of changes in folders. The only module that knows watchfiles."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

from watchfiles._rust_notify import RustNotify

from microkernel.errors import valid_text

_BURST = 10
"""Milliseconds of changes that are taken together."""
_AWAKE, _DOZING = 1, 20
"""watchfiles waits by looking every so many milliseconds: often only while somebody is at work, for it costs 1 % of a
core; else a save is heard of some 20 ms later."""
_UNDECODABLE = "Unable to decode path"
# What watchfiles ends with when a file changes whose name is not UTF-8.
_NO_WATCHES = "the limit of inotify watches is reached, so that not all folders are watched"
_AT_WORK = 300.0
"""Seconds since the last change for which somebody is."""


class Notifier:
    """For one thread. ``wake`` ends a wait from any other; who waits clears it, and looks for itself what was done to
    the files: watchfiles forgets it."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._folders: frozenset[str] = frozenset()
        self._notify: RustNotify | None = None
        self._aliases: dict[str, str] = {}
        """Folders whose path is not UTF-8, which watchfiles cannot take, by the path under which it watches them."""
        self._descriptors: list[int] = []
        self._busy_until = time.monotonic() + _AT_WORK

    def watch_folders(self, folders: Iterable[str], *, anew: bool = False) -> None:
        """Watch these folders, not what is below them, and no others. ``anew`` also if they have the names they had:
        one may be another now. Raises OSError where the system does not let it; what could be watched is, until the
        next time."""
        requested = frozenset(folder for folder in folders if os.path.isdir(folder) and os.access(folder, os.R_OK))
        if requested == self._folders and not anew:
            return
        self.close()  # first: its watches count, too
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
        """The paths that something was done to; none when it is woken, after so many seconds, or when the name of a
        file that changed is not UTF-8: then it is woken too, and has to be aimed again. Raises OSError for what the
        library cannot go on after; ``watch_folders`` begins anew."""
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
    """Raises OSError for a folder that cannot be watched, RuntimeError where nothing can. Without ``all_of_them``,
    watchfiles passes over such a folder without a word, and where nothing can be watched this is None."""
    try:
        return RustNotify(paths, False, False, 300, False, not all_of_them)
    except (RuntimeError, OSError):
        if all_of_them:
            raise
        return None


def _words_of(error: Exception) -> str:
    words = str(error)
    return _NO_WATCHES if "watch limit" in words else words
