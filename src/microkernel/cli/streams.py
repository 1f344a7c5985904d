"""The standard streams of ``mk`` in every condition: closed, full, a pipe without a reader, an encoding that lacks
characters."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

_LOSSES = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class OutputLost(OSError):
    """Standard output did not accept a result. The operation was done all the same.

    It has no errno, because click would treat a broken pipe as its own error and exit with 1.
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
    r"""Configure a stream to write characters that its encoding lacks as ``\u6c49``."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def write(text: str, stream: TextIO) -> None:
    """Write text immediately.

    Raises OutputLost if standard output does not accept it. Standard error is the last resort: text that it does not
    accept is lost.
    """
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
    """Return whether the stream can encode every character."""
    return (stream.encoding or "").lower().replace("_", "-").startswith(("utf-", "utf8"))


def finish() -> None:
    """Flush the streams. Otherwise the interpreter would try it at exit, complain, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # without a reader, or full; the writer got the error
            abandon(stream)


def abandon(stream: TextIO) -> None:
    """Discard the content of the stream's buffer and all that is written later."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
