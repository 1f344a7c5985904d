"""What nobody should ever see: mistakes of the kernel's own, and errors that a thread of it did not expect."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from microkernel.errors import PluginKilled

OWN_MISTAKE = "MK0699"
Tell = Callable[[str, str], object]


class _Mistakes(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if OWN_MISTAKE in record.getMessage() and record.exc_info:
            _told(self._tell, "kernel", record.exc_info[1])


@contextmanager
def watched(tell: Tell) -> Iterator[None]:
    """``tell`` who, and what, for as long as this lasts."""

    def run_in_thread(args: threading.ExceptHookArgs) -> None:
        _told(tell, args.thread.name if args.thread else "thread", args.exc_value)

    def nowhere(args: Any) -> None:
        # A thread that is killed may be in a finalizer, which swallows what is raised in it; it is pressed again.
        if isinstance(args.exc_value, PluginKilled):
            return
        _told(tell, f"unraisable in {args.object!r}", args.exc_value)

    hooks, log, handler = (threading.excepthook, sys.unraisablehook), logging.getLogger("microkernel"), _Mistakes(tell)
    threading.excepthook, sys.unraisablehook = run_in_thread, nowhere
    log.addHandler(handler)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        log.removeHandler(handler)


def _told(tell: Tell, who: str, error: BaseException | None) -> None:
    tell(who.replace(" ", "_"), "".join(traceback.format_exception(error)) if error else "an error")
