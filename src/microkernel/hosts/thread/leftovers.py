"""Find what a plugin that has ended left in this process: registrations, threads, objects."""

from __future__ import annotations

import gc
import logging
import threading
import time
import typing
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType, ModuleType

from microkernel.hosts.thread.interpreter_state import InterpreterState, describe, running
from microkernel.hosts.thread.referrers import ReferrerSearch
from microkernel.kernel.ports import Audit
from microkernel.wire import codec

_log = logging.getLogger("microkernel")
# Seconds to wait for another thread's collection.
_MAX_SECONDS = 2.0
_RETRY_SECONDS = 0.001
UNSEEN = "kept by what the collector cannot see: local variables of code that runs, or an extension"


class LeakAudit:
    """Remembers what an instance had, without keeping it alive.

    Created when nothing of the instance runs any more; its registrations are undone then. An audit costs one full
    collection of the process, or two and a search if something is left.
    """

    def __init__(self, state: InterpreterState, modules: Sequence[ModuleType], plugin: object | None) -> None:
        self._interpreter_state = state
        self._refs = _references(state, modules, plugin)
        self._undone = state.undo_registrations()
        self._changed = state.changes()

    def audit(self, frames: Mapping[int, FrameType]) -> Audit:
        try:
            threads = running(self._interpreter_state, frames)
            del frames  # they keep their local variables alive
            undone, self._undone = self._undone, []
            changed, self._changed = self._changed, []
            return Audit((*threads, *changed, *self._left(bool(threads))), tuple(undone))
        except Exception as error:
            _log.debug("an audit failed", exc_info=True)
            return Audit((f"the audit failed: {type(error).__name__}: {error}",))

    def _left(self, threads: bool) -> list[str]:
        """Describe what still holds objects of the instance, except its running threads, which are reported
        separately."""
        _collect()
        if not self._alive():
            return []
        _clear_caches()
        _collect()
        alive = self._alive()
        if not alive:
            return []
        search = ReferrerSearch(alive, self._interpreter_state)
        lines = search.run()
        if threads:
            lines = [line for line in lines if "a running thread " not in line]
        elif not lines and not search.gave_up:
            lines = [f"{_describe_first(alive)}: {UNSEEN}"]
        if search.gave_up:
            lines.append(f"{_describe_first(alive)}: nothing {'more ' if lines else ''}was found {search.gave_up}")
        return lines

    def _alive(self) -> list[weakref.ref[object]]:
        return [each for each in self._refs if each() is not None]


class _Canary:
    """Garbage that refers to itself, so only a collection removes it."""

    def __init__(self) -> None:
        self.itself = self


def _collect() -> None:
    """Run a full collection on this thread.

    ``gc.collect`` does nothing while another thread collects, and that thread may let others run, at the latest where a
    descriptor is closed or a finalizer is called.
    """
    until = time.monotonic() + _MAX_SECONDS
    while not _has_collected() and time.monotonic() < until:
        time.sleep(_RETRY_SECONDS)


def _has_collected() -> bool:
    collectors: list[int] = []
    canary = weakref.ref(_Canary(), lambda _: collectors.append(threading.get_ident()))
    gc.collect()
    return canary() is None and threading.get_ident() in collectors


def _describe_first(alive: Sequence[weakref.ref[object]]) -> str:
    return describe(alive[0]())


def _references(
    state: InterpreterState, modules: Sequence[ModuleType], plugin: object | None
) -> list[weakref.ref[object]]:
    """Return references to the Plugin object, to the classes that its modules define, and to these modules."""
    classes = [each for module in modules for each in list(vars(module).values()) if isinstance(each, type)]
    references = []
    for each in (plugin, *dict.fromkeys(cls for cls in classes if state.owns(cls)), *modules):
        with suppress(TypeError):  # None, or an object with slots that cannot be referenced weakly
            references.append(weakref.ref(each))
    return references


def _clear_caches() -> None:
    """Clear caches that keep types which were merely inspected: ours, and those of ``typing`` for
    ``Optional[Order]``."""
    codec.forget_types()
    for clear in getattr(typing, "_cleanups", ()):
        clear()
