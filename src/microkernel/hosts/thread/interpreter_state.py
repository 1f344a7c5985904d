"""What a plugin in this process has registered with the interpreter, known by whose code it is; taken away at its end.

The interpreter's own lists are read when the plugin has ended; nothing is wrapped or patched for this but three methods
of ``logging.Logger`` (``_log_changes.py``).
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

MODULE_PREFIX = log_changes.MODULE_PREFIX
"""What the names of all plugins' modules begin with."""
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
_before: dict[tuple[str, str], Any] = {}
"""What was last seen in each hook that was no plugin's."""


class InterpreterState:
    """Of one generation. Made before it runs: what stood in the interpreter's hooks then is put back.

    Generations of one plugin have modules of equal names. What is this one's is known by the very strings: a class or a
    function takes the string that its module has for a name.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._process_state = ProcessState()
        log_changes.watch()
        for place, name in _HOOKS:
            hook = getattr(place, name, None)
            if not is_of_plugin(hook):  # what another plugin put there is not ours to keep
                _before[place.__name__, name] = hook

    def owns(self, thing: object) -> bool:
        """Whether it is a module, class or function of it, or an object of such a class. Runs none of its code."""
        return self.has_name(_name_of(thing))

    def has_name(self, name: object) -> bool:
        """Whether it is the string that is the name of one of its modules."""
        return id(name) in self._names

    def register_names(self, names: Iterable[str]) -> None:
        """What its modules are called. The strings are kept: no other is at their place then."""
        self._names = {id(name): name for name in names}

    def undo_registrations(self) -> list[str]:
        """Take away what it did not take back itself, and run none of it. Returns what that was."""
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
        """What it changed of what the whole process shares, or what changed meanwhile; called once, after
        ``undo_registrations``."""
        changed = [*log_changes.report_changes(self.has_name), *self._process_state.changes()]
        log_changes.unwatch()
        return changed

    def _remove_exit_functions(self) -> list[str]:
        probe = _Probe(self.owns)
        with contextlib.suppress(Exception):  # what somebody else's function raises when it is compared
            atexit.unregister(probe)  # type: ignore[arg-type]
        return [f"{what} in atexit" for what in probe.found]

    def _restore_hooks(self) -> list[str]:
        undone = []
        for place, name in _HOOKS:
            hook = getattr(place, name, None)
            if self.owns(hook):
                setattr(place, name, _before[place.__name__, name])
                undone.append(f"{place.__name__}.{name}, which was {describe(hook)}")
        return undone

    def _clear_lists(self) -> list[str]:
        undone = []
        for name, entries in _LISTS:
            for entry in [each for each in entries if self.owns(each)]:
                with contextlib.suppress(ValueError):  # somebody else was quicker
                    entries.remove(entry)
                    undone.append(f"{describe(entry)} in {name}")
        return undone

    def _remove_reducers(self) -> list[str]:
        """How objects of its classes are pickled."""
        classes = [each for each in list(copyreg.dispatch_table) if self.owns(each)]
        for each in classes:
            copyreg.dispatch_table.pop(each, None)
        return [f"{describe(each)} in copyreg" for each in classes]

    def _remove_log_handlers(self) -> list[str]:
        """Handlers and filters of its own at loggers of others."""
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
        """Entries under names that only it can mean: nobody has to take these back."""
        if not self._has_successor():
            _forget_loggers([name for name in list(logging.Logger.manager.loggerDict) if self._is_named_after(name)])
        for name, module in sys.modules.copy().items():  # a copy, in one step: others import meanwhile
            if isinstance(module, ModuleType) and self.owns(module):
                sys.modules.pop(name, None)

    def _is_named_after(self, logger: str) -> bool:
        return any(logger == name or logger.startswith(f"{name}.") for name in self._names.values())

    def _has_successor(self) -> bool:
        """Whether the next generation is there, and has the same loggers."""
        named = set(self._names.values())
        modules = [module for module in sys.modules.copy().values() if isinstance(module, ModuleType)]
        return any(vars(module).get("__name__") in named and not self.owns(module) for module in modules)


def _forget_loggers(names: Iterable[str]) -> None:
    """Also at the places that ``logging`` keeps for their parents."""
    loggers = logging.Logger.manager.loggerDict
    gone = [loggers.pop(name, None) for name in names]
    for place, keeper in list(loggers.items()):
        if isinstance(keeper, logging.PlaceHolder) and f"{place}.".startswith(MODULE_PREFIX):
            for logger in gone:
                keeper.loggerMap.pop(logger, None)  # type: ignore[arg-type]
            if not keeper.loggerMap:
                loggers.pop(place, None)


class _Probe:
    """``atexit`` does not show its functions, but compares each with what is to be taken out."""

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
    """The threads that run code of it, and where; a Timer that only waits to do so is called off."""
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
    """A function, class or object in a few words. Runs no code of it."""
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
    """``module shared (shared.py)``; a plugin's goes by the plugin's name."""
    names = vars(module)
    name, file = str(names.get("__name__", "?")), names.get("__file__")
    where = f" ({os.path.basename(file)})" if isinstance(file, str) else ""
    return f"plugin {plugin_name(name)}{where}" if name.startswith(MODULE_PREFIX) else f"module {name}{where}"


def plugin_name(module: str) -> str:
    """The plugin whose module has this name."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    key = str(getattr(spec, "name", "")).partition(".")[0]
    return key.split("-", 2)[2] if key.count("-") > 1 else module.removeprefix(MODULE_PREFIX).partition(".")[0]


def is_of_plugin(thing: object) -> bool:
    """Whether it is of any plugin."""
    name = _name_of(thing)
    return isinstance(name, str) and name.startswith(MODULE_PREFIX)


def _name_of(thing: object) -> object:
    """The name of its module: the string itself."""
    if isinstance(thing, partial):
        return _name_of(thing.func)
    if isinstance(thing, MethodType):
        thing = thing.__func__
    if isinstance(thing, FunctionType):
        return thing.__globals__.get("__name__")
    if isinstance(thing, ModuleType):
        return vars(thing).get("__name__")
    cls = thing if isinstance(thing, type) else type(thing)
    return type.__dict__["__module__"].__get__(cls)  # past what a metaclass may answer


def _loggers() -> list[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.values())
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]
