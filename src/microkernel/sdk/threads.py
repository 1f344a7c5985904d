"""Threads that may be killed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from microkernel.errors import PluginKilled


class PluginThread(threading.Thread):
    """A daemon that says nothing when it is killed: not even when that comes at its very end, after all our handlers,
    where ``threading`` would print a traceback."""

    def __init__(self, target: Callable[..., Any], name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        tell = self._invoke_excepthook  # type: ignore[has-type]
        self._invoke_excepthook = lambda thread: None if _killed() else tell(thread)


def _killed() -> bool:
    return isinstance(sys.exc_info()[1], PluginKilled)
