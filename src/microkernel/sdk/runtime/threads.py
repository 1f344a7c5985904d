"""Threads that may be killed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from microkernel.errors import PluginKilled

# Clears an exception that is pending in a thread. Does nothing until a host is loaded that injects one.
_clear_pending_kill: Callable[[int | None], object] = id


def clear_kills_with(function: Callable[[int | None], object]) -> None:
    """Have this function clear an exception that is pending in the thread whose identifier it is called with."""
    global _clear_pending_kill
    _clear_pending_kill = function


class KillableThread(threading.Thread):
    """A daemon thread that may be killed, but only while it runs its target: the interpreter takes its own locks before
    and after that, and they must not be left half taken.

    Prints nothing when it is killed, not even at its very end, where ``threading`` would print a traceback.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        name: str,
        args: tuple[Any, ...] = (),
        last: Callable[[], object] | None = None,
    ) -> None:
        """``last`` is called at the end in any case, when the thread can no longer be killed."""
        super().__init__(target=target, name=name, args=args, daemon=True)
        # A thread stores the current hooks when it is created, for the interpreter's exit; they may be a plugin's.
        self._invoke_excepthook = _report_unless_killed
        self._inside = False
        self._gate = threading.RLock()
        self._last = last

    def inject_kill(self, raise_in: Callable[[int, type[BaseException]], object]) -> None:
        """Raise PluginKilled in this thread. Must be called on a thread that cannot be killed itself."""
        if self._gate.acquire(blocking=False):
            try:
                if self._inside and self.ident is not None:
                    raise_in(self.ident, PluginKilled)
            finally:
                self._gate.release()

    def start(self) -> None:
        """Start the thread. The starting thread is not killed meanwhile: until the new thread runs, CPython identifies
        it by the starter's id, and would kill the new one."""
        starter = threading.current_thread()
        if not isinstance(starter, KillableThread):
            super().start()
            return
        try:
            starter._gate.acquire()
            super().start()
        finally:
            if starter._gate._is_owned():  # type: ignore[attr-defined]
                starter._gate.release()

    def run(self) -> None:
        self._inside = True
        try:
            super().run()
        finally:
            # From here on nothing is raised in this thread: the gate is never released, and a pending exception is
            # cleared. No call may precede the ``try``, because the exception could be raised there.
            while True:
                try:
                    self._gate.acquire()
                    self._inside = False
                    _clear_pending_kill(self.ident)
                    break
                except PluginKilled:
                    pass
            if self._last is not None:
                self._last()


_report: Callable[[threading.Thread], object] = threading.Thread()._invoke_excepthook  # type: ignore[attr-defined]


def _report_unless_killed(thread: threading.Thread) -> None:
    if not isinstance(sys.exc_info()[1], PluginKilled):
        _report(thread)
