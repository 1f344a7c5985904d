"""Temporary folders of workers: each gets one as its ``TMPDIR``, removed when the worker has exited.

They lie in one folder of this kernel, below the ``TMPDIR`` of the kernel's user. That folder is locked while the kernel
lives, so the next kernel recognises what a killed one left, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count

# Seconds that an audit waits for files to be removed.
_JOIN_TIMEOUT = 5.0
_MAX_ATTEMPTS = 10
# Nested folders that are removed in place.
_MAX_DEPTH = 50
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TempDirs:
    """The temporary folders of one kernel; created with the first worker that needs one. ``remove`` never waits."""

    def __init__(self, mode: int = 0o700) -> None:
        self._mode = mode
        self._root = ""
        self._handle = -1
        self._serial = count(1)
        self._lock = threading.Lock()
        self._removing: dict[str, threading.Thread] = {}

    def make(self, plugin: str) -> str:
        """Create a folder and return its path; empty if there is no place for temporary files. Nothing is guaranteed
        then."""
        with self._lock, suppress(OSError):
            if not self._root:
                self._make_root()
            if not self._root:
                return ""
            folder = f"{self._root}/{plugin}-{next(self._serial)}"
            os.mkdir(folder, 0o700)
            os.chmod(folder, self._mode)
            return folder
        return ""

    def remove(self, folder: str) -> None:
        """Remove the folder of a worker that has exited. Files that were left are removed in the background."""
        if folder:
            _remove_modules(modules_of(folder))
            self._remove_or_defer(folder)
            self._remove_or_defer(modules_of(folder))

    def _remove_or_defer(self, folder: str) -> None:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            self._in_background(folder, lambda: _remove(folder))

    def leftovers(self, folder: str) -> list[str]:
        """Describe what could not be removed of a removed folder. Waits."""
        thread = self._removing.get(folder)
        if thread is not None:
            thread.join(_JOIN_TIMEOUT)
        if not folder or not os.path.lexists(folder):
            return []
        under_way = thread is not None and thread.is_alive()
        return [f"temporary files in {folder}" + (", still being removed" if under_way else "")]

    def close(self) -> None:
        """Remove everything. No worker is left. Waits."""
        for thread in list(self._removing.values()):
            thread.join(_JOIN_TIMEOUT)
        with self._lock:
            if self._root:
                _remove(self._root)
                os.close(self._handle)
                self._root, self._handle = "", -1

    def _make_root(self) -> None:
        parent = os.path.abspath(tempfile.gettempdir())
        prefix = f"microkernel-scratch-{os.getuid()}-"
        self._in_background(parent, lambda: _sweep(parent, prefix))
        for _ in range(_MAX_ATTEMPTS):
            root = tempfile.mkdtemp("", prefix, parent)
            handle = _try_lock(root)
            if handle >= 0:
                os.chmod(root, self._mode)
                self._root, self._handle = root, handle
                return
            with suppress(OSError):  # another kernel removed it, or it could not be locked and would be left
                os.rmdir(root)

    def _in_background(self, name: str, work: Callable[[], object]) -> None:
        def run() -> None:
            with suppress(OSError):  # the audit reports what is left
                work()

        thread = threading.Thread(target=run, name="microkernel-scratch", daemon=True)
        thread.start()
        for each, other in self._removing.copy().items():
            if not other.is_alive():
                self._removing.pop(each, None)
        self._removing[name] = thread


def modules_of(folder: str) -> str:
    """Return where the worker with this folder writes its plugin's modules, for processes that the plugin starts."""
    return f"{folder}.modules" if folder else ""


def _remove_modules(folder: str) -> None:
    """Remove what a worker wrote there, at once. What its children added is removed with everything else."""
    package = f"{folder}/mkplugin"
    with suppress(OSError):  # the worker did not get that far, or there is more
        os.unlink(f"{package}/snapshot")
        os.unlink(f"{package}/__init__.py")
        os.rmdir(package)


def _try_lock(folder: str) -> int:
    """Open and lock the folder until the descriptor is closed. Return -1 if another process has the lock, or it is
    gone."""
    try:
        handle = os.open(folder, _OPEN_FOLDER)
    except OSError:
        return -1
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(folder, follow_symlinks=False), os.fstat(handle)):
            return handle
    except OSError:
        pass  # it is another kernel's, or was removed between its creation and the lock
    os.close(handle)
    return -1


def _sweep(parent: str, prefix: str) -> None:
    """Remove what dead kernels left: folders that no process has locked."""
    with os.scandir(parent) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(prefix)]
    for folder in found:
        with suppress(OSError):
            if os.stat(folder, follow_symlinks=False).st_uid == os.getuid() and (handle := _try_lock(folder)) >= 0:
                _remove(folder)
                os.close(handle)


def _remove(folder: str) -> None:
    """Remove the folder with all its contents, read-only folders included. Links are not followed."""
    _remove_tree(folder)
    if os.path.lexists(folder):
        _flatten(folder)
        _remove_tree(folder)


def _remove_tree(folder: str) -> None:
    with suppress(RecursionError):  # nested too deeply: everything is left
        shutil.rmtree(folder, ignore_errors=True)


def _flatten(folder: str) -> None:
    """Make all folders in it accessible, and move those up that are nested too deeply to descend."""
    with suppress(OSError):
        os.chmod(folder, 0o700)
        top = os.open(folder, _OPEN_FOLDER)
        left = ["."]
        while left:
            left += _hoist(left.pop(), top, top)
        os.close(top)


def _hoist(name: str, folder: int, top: int, depth: int = 0) -> list[str]:
    """Make this folder and those in it accessible. Return the new names, in ``top``, of those moved up."""
    moved: list[str] = []
    with suppress(OSError):
        os.chmod(name, 0o700, dir_fd=folder)
        inner = os.open(name, _OPEN_FOLDER, dir_fd=folder)
        try:
            for each in _folders(inner):
                if depth < _MAX_DEPTH:
                    moved += _hoist(each, inner, top, depth + 1)
                else:
                    moved.append(f"deep-{os.urandom(16).hex()}")
                    os.rename(each, moved[-1], src_dir_fd=inner, dst_dir_fd=top)
        finally:
            os.close(inner)
    return moved


def _folders(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
