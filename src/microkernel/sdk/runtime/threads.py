"""Threads that may be killed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from microkernel.errors import PluginKilled

clear_pending_kill: Callable[[int | None], object] = id
"""Has what waits to be raised in a thread forgotten. Set by who raises."""


class KillableThread(threading.Thread):
    """A daemon that may be killed, but only while it runs what it was given: the interpreter's own locks, which it
    takes before and after that, must not be left half taken. It says nothing when it is killed: not even when that
    comes at its very end, after all our handlers, where ``threading`` would print a traceback."""

    def __init__(
        self,
        target: Callable[..., Any],
        name: str,
        args: tuple[Any, ...] = (),
        last: Callable[[], object] | None = None,
    ) -> None:
        """``last`` is called at the end, whatever comes, when it cannot be killed any more."""
        super().__init__(target=target, name=name, args=args, daemon=True)
        # A thread keeps the hooks that stand when it is made, for the interpreter's end; they may be a plugin's.
        self._invoke_excepthook = _report_unless_killed
        self._inside = False
        self._gate = threading.RLock()
        self._last = last

    def inject_kill(self, raise_in: Callable[[int, type[BaseException]], object]) -> None:
        """Have PluginKilled raised in it. On a thread that cannot be killed itself."""
        if self._gate.acquire(blocking=False):
            try:
                if self._inside and self.ident is not None:
                    raise_in(self.ident, PluginKilled)
            finally:
                self._gate.release()

    def start(self) -> None:
        """Its starter is not killed meanwhile: until the new thread runs, CPython takes it for the one that starts it,
        and would kill the newborn."""
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
            # From here on nothing is raised in it: the gate is never given back, and what waits to be raised is called
            # off. No call stands before the ``try``: that would be a place for it to come.
            while True:
                try:
                    self._gate.acquire()
                    self._inside = False
                    clear_pending_kill(self.ident)
                    break
                except PluginKilled:
                    pass
            if self._last is not None:
                self._last()


_report: Callable[[threading.Thread], object] = threading.Thread()._invoke_excepthook  # type: ignore[attr-defined]


def _report_unless_killed(thread: threading.Thread) -> None:
    if not isinstance(sys.exc_info()[1], PluginKilled):
        _report(thread)
