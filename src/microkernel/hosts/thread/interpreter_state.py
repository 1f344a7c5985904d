"""Registrations of a plugin with this process's interpreter, recognised by whose code they are, and undone when it
ends.

The interpreter's own lists are read when the plugin has ended; nothing is wrapped or patched for this except three
methods of ``logging.Logger`` (``log_changes.py``).
"""

from __future__ import annotations

import atexit
import contextlib
import copyreg
import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from microkernel.hosts.thread import log_changes
from microkernel.hosts.thread.process_state import ProcessState

# Prefix of the names of all plugins' modules.
MODULE_PREFIX = log_changes.MODULE_PREFIX
_HOOKS: tuple[tuple[Any, str], ...] = (
    (sys, "excepthook"),
    (sys, "unraisablehook"),
    (sys, "displayhook"),
    (sys, "breakpointhook"),
    (sys, "stdin"),
    (sys, "stdout"),
    (sys, "stderr"),
    (threading, "excepthook"),
    (threading, "_trace_hook"),
    (threading, "_profile_hook"),
    (warnings, "showwarning"),
    (warnings, "formatwarning"),
)
_LISTS: tuple[tuple[str, list[Any]], ...] = (
    ("sys.meta_path", sys.meta_path),
    ("sys.path_hooks", sys.path_hooks),
    ("gc.callbacks", gc.callbacks),
)
# What was last seen in each hook that did not belong to a plugin.
_before: dict[tuple[str, str], Any] = {}


class InterpreterState:
    """The registrations of one generation.

    Create it before the generation runs: what is in the interpreter's hooks then is restored later. Generations of one
    plugin have modules of equal names. Those of this one are recognised by the identity of the strings: a class or a
    function refers to the very string that is its module's name.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._process_state = ProcessState()
        log_changes.watch()
        for owner, name in _HOOKS:
            hook = getattr(owner, name, None)
            if not is_of_plugin(hook):  # another plugin's hook must not be kept alive here
                _before[owner.__name__, name] = hook

    def owns(self, thing: object) -> bool:
        """Return whether it is a module, class or function of this generation, or an object of such a class. Runs none
        of its code."""
        return self.has_name(_name_of(thing))

    def has_name(self, name: object) -> bool:
        """Return whether it is the very string that is the name of one of its modules."""
        return id(name) in self._names

    def register_names(self, names: Iterable[str]) -> None:
        """Set the names of its modules. The strings are kept, so that no other string has their identity."""
        self._names = {id(name): name for name in names}

    def undo_registrations(self) -> list[str]:
        """Remove what it did not remove itself, without running any of its code. Return what that was."""
        steps = (
            self._remove_exit_functions,
            self._restore_hooks,
            self._clear_lists,
            self._remove_reducers,
            self._remove_log_handlers,
        )
        undone = [line for step in steps for line in step()]
        undone += log_changes.undo(self.has_name)
        self._forget_names()
        return undone

    def changes(self) -> list[str]:
        """Return what it changed of the state that the whole process shares, or what changed meanwhile. Called once,
        after ``undo_registrations``."""
        changed = [*log_changes.report_changes(self.has_name), *self._process_state.changes()]
        log_changes.unwatch()
        return changed

    def _remove_exit_functions(self) -> list[str]:
        probe = _Probe(self.owns)
        with contextlib.suppress(Exception):  # comparing it with another program's function may raise
            atexit.unregister(probe)  # type: ignore[arg-type]
        return [f"{what} in atexit" for what in probe.found]

    def _restore_hooks(self) -> list[str]:
        undone = []
        for owner, name in _HOOKS:
            hook = getattr(owner, name, None)
            if self.owns(hook):
                setattr(owner, name, _before[owner.__name__, name])
                undone.append(f"{owner.__name__}.{name}, which was {describe(hook)}")
        return undone

    def _clear_lists(self) -> list[str]:
        undone = []
        for name, entries in _LISTS:
            for entry in [each for each in entries if self.owns(each)]:
                with contextlib.suppress(ValueError):  # removed meanwhile
                    entries.remove(entry)
                    undone.append(f"{describe(entry)} in {name}")
        return undone

    def _remove_reducers(self) -> list[str]:
        """Remove its registrations of how objects are pickled."""
        classes = [each for each in list(copyreg.dispatch_table) if self.owns(each)]
        for each in classes:
            copyreg.dispatch_table.pop(each, None)
        return [f"{describe(each)} in copyreg" for each in classes]

    def _remove_log_handlers(self) -> list[str]:
        """Remove its handlers and filters from loggers of others."""
        undone = []
        for logger in _loggers():
            if self._is_named_after(logger.name):
                continue
            for handler in [each for each in logger.handlers if self.owns(each)]:
                logger.removeHandler(handler)
                undone.append(f"log handler {type(handler).__name__} at logger {logger.name!r}")
            for keeper in (logger, *logger.handlers):
                for one in [each for each in keeper.filters if self.owns(each)]:
                    keeper.removeFilter(one)
                    undone.append(f"log filter {describe(one)} at logger {logger.name!r}")
        return undone

    def _forget_names(self) -> None:
        """Remove entries under names that only it uses; a plugin need not remove these itself."""
        if not self._has_successor():
            _forget_loggers([name for name in list(logging.Logger.manager.loggerDict) if self._is_named_after(name)])
        for name, module in sys.modules.copy().items():  # a copy, in one step: others import meanwhile
            if isinstance(module, ModuleType) and self.owns(module):
                sys.modules.pop(name, None)

    def _is_named_after(self, logger: str) -> bool:
        return any(logger == name or logger.startswith(f"{name}.") for name in self._names.values())

    def _has_successor(self) -> bool:
        """Return whether the next generation is loaded; it has the same loggers."""
        named = set(self._names.values())
        modules = [module for module in sys.modules.copy().values() if isinstance(module, ModuleType)]
        return any(vars(module).get("__name__") in named and not self.owns(module) for module in modules)


def _forget_loggers(names: Iterable[str]) -> None:
    """Remove loggers, also from the placeholders that ``logging`` keeps for their parents."""
    loggers = logging.Logger.manager.loggerDict
    gone = [loggers.pop(name, None) for name in names]
    for name, keeper in list(loggers.items()):
        if isinstance(keeper, logging.PlaceHolder) and f"{name}.".startswith(MODULE_PREFIX):
            for logger in gone:
                keeper.loggerMap.pop(logger, None)  # type: ignore[arg-type]
            if not keeper.loggerMap:
                loggers.pop(name, None)


class _Probe:
    """Finds functions in ``atexit``, which does not list them, but compares each with the one to be removed."""

    def __init__(self, owns: Callable[[object], bool]) -> None:
        self._owns = owns
        self.found: list[str] = []

    def __eq__(self, other: object) -> bool:
        if self._owns(other):
            self.found.append(describe(other))
            return True
        return False

    __hash__ = None  # type: ignore[assignment]


def running(state: InterpreterState, frames: Mapping[int, FrameType]) -> list[str]:
    """Return the threads that run code of the plugin, and where. A Timer that merely waits to do so is cancelled."""
    found = []
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer) and state.owns(thread.function):
            thread.cancel()
            thread.join(1.0)
        frame = frames.get(thread.ident or 0)
        while frame is not None and not state.has_name(frame.f_globals.get("__name__")):
            frame = frame.f_back
        if frame is not None and thread.is_alive():
            place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
            found.append(f"a running thread {thread.name!r} in {frame.f_code.co_name} ({place})")
    return found


def describe(thing: object) -> str:
    """Describe a function, class or object briefly. Runs none of its code."""
    if isinstance(thing, partial):
        return describe(thing.func)
    if isinstance(thing, MethodType) and isinstance(thing.__func__, FunctionType):
        return f"method {_function(thing.__func__)}"
    if isinstance(thing, FunctionType):
        return f"{'closure' if thing.__closure__ else 'function'} {_function(thing)}"
    if isinstance(thing, ModuleType):
        return describe_module(thing)
    return f"class {thing.__name__}" if isinstance(thing, type) else f"{type(thing).__name__} object"


def _function(function: FunctionType) -> str:
    code = function.__code__
    return f"{code.co_name!r} ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"


def describe_module(module: ModuleType) -> str:
    """Return ``module shared (shared.py)``; for a plugin's module, the plugin's name."""
    names = vars(module)
    name, file = str(names.get("__name__", "?")), names.get("__file__")
    where = f" ({os.path.basename(file)})" if isinstance(file, str) else ""
    return f"plugin {plugin_name(name)}{where}" if name.startswith(MODULE_PREFIX) else f"module {name}{where}"


def plugin_name(module: str) -> str:
    """Return the plugin whose module has this name."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    key = str(getattr(spec, "name", "")).partition(".")[0]
    return key.split("-", 2)[2] if key.count("-") > 1 else module.removeprefix(MODULE_PREFIX).partition(".")[0]


def is_of_plugin(thing: object) -> bool:
    """Return whether it belongs to any plugin."""
    name = _name_of(thing)
    return isinstance(name, str) and name.startswith(MODULE_PREFIX)


def _name_of(thing: object) -> object:
    """Return the name of its module, the very string."""
    if isinstance(thing, partial):
        return _name_of(thing.func)
    if isinstance(thing, MethodType):
        thing = thing.__func__
    if isinstance(thing, FunctionType):
        return thing.__globals__.get("__name__")
    if isinstance(thing, ModuleType):
        return vars(thing).get("__name__")
    cls = thing if isinstance(thing, type) else type(thing)
    return type.__dict__["__module__"].__get__(cls)  # bypasses a metaclass


def _loggers() -> list[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.values())
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]
