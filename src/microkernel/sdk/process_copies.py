"""Forked copies of this process: children of a fork that a plugin made, by ``os.fork`` or in C code.

A copy has the plugin's memory and channel, but is not the plugin, and its messages would be taken for the plugin's. So
its API raises, and when its code returns into the SDK, by a value or an exception, the copy exits.

A copy is recognized by a memory page that the system clears in every child (``MADV_WIPEONFORK``), because no Python
code runs between a fork in C code and the return from it, and because reading a byte is faster than getting the process
id.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import MutableSequence
from contextlib import suppress
from typing import Any, NoReturn
from weakref import WeakSet

from microkernel.errors import KernelClosed

_MADV_WIPEONFORK = 18
_loops: WeakSet[Any] = WeakSet()


def _make_page() -> MutableSequence[int] | Any:
    try:
        import mmap

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (ImportError, AttributeError, OSError):  # a wasm guest, which cannot fork; or a system other than Linux
        return bytearray(1)
    return page


# Read as ``page[0]`` on hot paths. 0 in a copy.
page = _make_page()


def _became_copy() -> None:
    page[0] = 0
    for loop in list(_loops):
        with suppress(RuntimeError):  # it is closed, or belongs to a thread that does not exist in this process
            loop.call_soon(end_copy)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_became_copy)


def is_instance() -> None:
    """Mark this process as running an instance; its children are copies."""
    page[0] = 1


def is_forked_copy() -> bool:
    """Return whether this process is a copy of one that runs an instance."""
    return not page[0]


def watch_loop(loop: object) -> None:
    """End a copy when it returns into this event loop."""
    _loops.add(loop)


def refuse_copy() -> None:
    """Raise KernelClosed in a copy."""
    if not page[0]:
        raise KernelClosed("MK0612", reason="this process is a forked copy of the plugin's")


def end_if_copy(error: BaseException | None = None) -> None:
    """End this process if it is a copy."""
    if not page[0]:
        end_copy(error)


class _InThisProcess:
    """Context manager that ends a copy that leaves the block, normally or by an exception."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        end_if_copy(error)


IN_THIS_PROCESS = _InThisProcess()


def end_copy(error: BaseException | None = None) -> NoReturn:
    """Exit with the status that a Python program would have, after flushing output. Skips ``atexit`` functions: they
    belong to the plugin, which is still running."""
    status = 0
    try:
        status = _status_of(error)
        for stream in (sys.stdout, sys.stderr):
            if getattr(stream, "line_buffering", False):  # other streams contain what the program wrote before the fork
                stream.flush()
    finally:
        os._exit(status)


def _status_of(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return int(error.code or 0)
        print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    else:
        traceback.print_exception(error)
    return 1
