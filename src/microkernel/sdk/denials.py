"""Explain which permission, level or limit caused an error, in a plugin that is confined or limited.

The operating system reports no more than "Permission denied" or "Operation not permitted". The explanation is added to
the exception when it becomes a failure or a log record, so it costs nothing otherwise.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import NamedTuple

from microkernel.errors import KernelError, PermissionDenied

# Maximum number of chained errors that are examined.
_MAX_CHAINED = 20


class Bounds(NamedTuple):
    """The plugin's confinement. ``level`` is empty if it is not confined. A limit that is 0 or missing is not set."""

    plugin: str = ""
    level: str = ""
    limits: Mapping[str, float] = {}


_bounds = Bounds()


def set_bounds(plugin: str, level: str, limits: Mapping[str, float]) -> None:
    """Set the confinement of this process. Not called at ``thread``, where there is none."""
    global _bounds
    _bounds = Bounds(plugin, level, limits)


def explanation_of(error: BaseException) -> str:
    """Return the cause of ``error``, or of an error it was raised from; empty if it is not a permission or limit of
    ours."""
    if not _bounds.plugin:
        return ""
    for each in _chain(error):
        text = _text_of(each)
        if "MK0" in text:  # it explains itself; the error raised from it may not
            return "" if text in _text_of(error) else text
        found = _limit_behind(each) or _denial_behind(each)
        if found is not None:
            return str(found)
    return ""


def explain(error: BaseException) -> str:
    """Add the explanation to the notes of ``error``, so that it is in the traceback, and return it."""
    text = explanation_of(error)
    if text and text not in getattr(error, "__notes__", ()):
        error.add_note(text)
    return text


def explaining_hook(hook: Callable[[threading.ExceptHookArgs], object]) -> Callable[[threading.ExceptHookArgs], object]:
    """Return a hook for errors that end a thread: it adds the explanation, then calls ``hook``."""

    def explain_first(arguments: threading.ExceptHookArgs) -> object:
        if arguments.exc_value is not None:
            explain(arguments.exc_value)
        return hook(arguments)

    return explain_first


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""  # a plugin's own class; the failure describes it elsewhere


def _chain(error: BaseException) -> Iterator[BaseException]:
    left, seen = [error], set[int]()
    while left and len(seen) < _MAX_CHAINED:
        at = left.pop(0)
        if id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        left += [each for each in (at.__cause__, at.__context__) if each is not None]
        left += at.exceptions if isinstance(at, BaseExceptionGroup) else ()


# Limits

_LIMITS_BY_CODE = {errno.ENOMEM: "memory", errno.EFBIG: "file_size", errno.EMFILE: "files"}
_LIMITS_BY_TEXT = {
    "memory": re.compile(r"bad_alloc|[Cc]annot allocate memory|[Oo]ut of [Mm]emory|[Uu]nable to allocate"),
    "file_size": re.compile(r"File too large"),
    "files": re.compile(r"Too many open files"),
    "threads": re.compile(r"can't start new thread"),
}
_DATABASE = re.compile(r"disk I/O error|database or disk is full")
_PAGES = 1 << 16


def _limit_behind(error: BaseException) -> KernelError | None:
    name = _limit_named(error)
    value = _bounds.limits.get(name, 0)
    if not value:
        return None
    return KernelError("MK0518", name=_bounds.plugin, limit=name, value=f"{int(value):,}")


def _limit_named(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno in _LIMITS_BY_CODE:
        return _LIMITS_BY_CODE[error.errno]
    text = _text_of(error)
    if _DATABASE.search(text) and _is_a_file_full():
        return "file_size"
    return next((name for name, pattern in _LIMITS_BY_TEXT.items() if pattern.search(text)), "")


def _is_a_file_full() -> bool:
    """Return whether a file in the working folder has reached its maximum size: SQLite does not report why a write
    failed."""
    full = _bounds.limits.get("file_size", 0) - _PAGES
    try:
        with os.scandir() as entries:
            return any(full < entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:
        return False


# Permissions

_PROCESS_MODULES = ("subprocess", "multiprocessing", "_posixsubprocess", "pty", "asyncio.unix_events")
_PROCESS_NAMES = {"fork", "forkpty", "posix_spawn", "posix_spawnp", "Popen", "popen", "execv", "execve", "execvp"}
_SOCKET_MODULES = ("socket", "socketserver", "http.server", "asyncio.base_events", "asyncio.selector_events", "ssl")
_SOCKET_NAMES = {"socket", "bind", "listen", "connect", "sendto", "create_server", "start_server"}
_REFUSED = re.compile(r"Operation not permitted|Permission denied")


def _denial_behind(error: BaseException) -> KernelError | None:
    if not _bounds.level:
        return None
    if isinstance(error, OSError):
        if _is_file_denied(error):
            target = error.filename2
            if isinstance(target, str | bytes) and not _is_own(target):  # the destination of a move or link
                return _file_denied(os.fsdecode(target), writing=True)
            return _file_denied(os.fsdecode(error.filename), writing=target is not None)
        return _call_refused(error) if error.errno in (errno.EPERM, errno.EACCES) else None
    return _call_refused(error) if _REFUSED.search(_text_of(error)) else None


def _is_file_denied(error: OSError) -> bool:
    """Return whether a file was denied. In a guest, a file outside the granted folders does not exist."""
    if not isinstance(error.filename, str | bytes):
        return False
    if _bounds.level == "wasm":
        is_missing = isinstance(error, FileNotFoundError) and _is_outside(error.filename)
        return is_missing or isinstance(error, PermissionError)
    return error.errno == errno.EACCES


def _is_own(path: str | bytes) -> bool:
    """Return whether a path is in the data folder, where a confined plugin works, or in its folder for temporary
    files."""
    whole = os.path.realpath(os.fsdecode(path))
    own = (os.environ.get("HOME"), os.environ.get("TMPDIR"))
    return any(whole.startswith(os.path.realpath(folder) + os.sep) for folder in own if folder)


def _file_denied(path: str, *, writing: bool = False) -> PermissionDenied | None:
    """Return the error for a denied file, with the permission that is missing.

    A file that does not exist was to be created; one that is readable was to be written. ``writing`` means that an
    entry of its folder was to be changed. Never suggests to grant ``/``.
    """
    whole = os.path.abspath(path)
    if writing and _bounds.level != "wasm":
        action, what = "fs.write", _nearest(os.path.dirname(whole))
    elif os.path.lexists(whole) or _bounds.level == "wasm":
        action, what = ("fs.write" if _may_read(whole) else "fs.read"), whole
    else:
        action, what = "fs.write", _nearest(whole)
    if _bounds.level == "wasm":
        what = os.path.dirname(whole)  # a guest is granted folders, not files
    if what == "/":
        return None
    return PermissionDenied("MK0401", name=_bounds.plugin, action=action, what=what, line=f'{action} = ["{what}"]')


def _is_outside(filename: str | bytes) -> bool:
    """Return whether a path is outside the granted folders: then not even its folder is visible."""
    return not os.path.isdir(os.path.dirname(os.path.abspath(filename)))


def _may_read(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _nearest(path: str) -> str:
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _call_refused(error: BaseException) -> KernelError | None:
    modules, names = _places(error)
    if names & _PROCESS_NAMES or _any_of(modules, _PROCESS_MODULES):
        return PermissionDenied("MK0419", name=_bounds.plugin, level=_bounds.level)
    if names & _SOCKET_NAMES or _any_of(modules, _SOCKET_MODULES):
        return PermissionDenied("MK0420", name=_bounds.plugin, level=_bounds.level)
    return PermissionDenied("MK0421", name=_bounds.plugin, level=_bounds.level)


def _any_of(modules: set[str], prefixes: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for name in modules for each in prefixes)


def _places(error: BaseException) -> tuple[set[str], set[str]]:
    """Return the modules that the error passed through, and the names that its innermost function uses."""
    modules, innermost = set[str](), set[str]()
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        modules.add(str(frame.f_globals.get("__name__", "")))
        innermost = _names_of(frame.f_code)
        trace = trace.tb_next
    return modules, innermost


def _names_of(code: CodeType) -> set[str]:
    return {*code.co_names}
