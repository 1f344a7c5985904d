"""The standard streams of ``mk``, whatever they lead to: closed, full, a pipe that nobody reads, an encoding that lacks
characters."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

_LOSSES = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class OutputLost(OSError):
    """What was asked for could not be written to standard output. It has been done all the same.

    It has no errno: click would take one of a broken pipe for its own, and exit with 1.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__((cause.strerror or str(cause)).lower())
        self.is_unread = cause.errno == errno.EPIPE


def open_missing() -> None:
    """Open the null device for each standard stream that is closed, so that no socket or file takes its place.

    Call it before anything else is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    sys.stdin = sys.stdin or _opened(0, "r")
    sys.stdout = sys.stdout or _opened(1, "w")
    sys.stderr = sys.stderr or _opened(2, "w")


def _opened(number: int, mode: str) -> Any:
    return open(number, mode, encoding="utf-8", closefd=False)


def escape_what_cannot_be_shown() -> None:
    """Characters that the encoding of a stream lacks are written as ``\\u6c49``."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def write(text: str, stream: TextIO) -> None:
    """Write it at once. Raises OutputLost if standard output does not take it; standard error is the last resort, and
    what it does not take is lost."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if stream is not sys.stderr:
            raise OutputLost(error) from None


def lost_output(cause: OSError) -> OutputLost | None:
    """Return the loss that an error is about, also if click wrote; None if it is about something else."""
    if isinstance(cause, OutputLost):
        return cause
    return OutputLost(cause) if cause.filename is None and cause.errno in _LOSSES else None


def is_unicode(stream: TextIO) -> bool:
    """Whether the stream can take every character."""
    return (stream.encoding or "").lower().replace("_", "-").startswith(("utf-", "utf8"))


def finish() -> None:
    """Flush what is left. Without this the interpreter would try it at its end, complain, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is full: whoever wrote was told
            abandon(stream)


def abandon(stream: TextIO) -> None:
    """Have what is left in the stream, and all that follows, go nowhere."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
