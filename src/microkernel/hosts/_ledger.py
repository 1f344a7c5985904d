"""What a plugin in this process has registered with the interpreter, known by whose code it is; taken away at its end.

Nothing is wrapped or patched for this: the interpreter's own lists are read when the plugin has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType, FunctionType, MethodType, ModuleType
from typing import Any

SPACE = "mkplugin_"
"""What the names of all plugins' modules begin with; the rest, up to a dot, is one generation of one plugin."""
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


class Ledger:
    """Of one generation, by the ``prefix`` of its modules' names. Made before it runs: what stood in the interpreter's
    hooks then is put back."""

    def __init__(self) -> None:
        self.prefix = ""
        for place, name in _HOOKS:
            hook = getattr(place, name, None)
            if not _space(hook):  # what another plugin put there is not ours to keep
                _before[place.__name__, name] = hook

    def owns(self, thing: object) -> bool:
        """Whether it is a module, class or function of it, or an object of such a class. Runs none of its code."""
        return bool(self.prefix) and _space(thing) == self.prefix

    def empty(self) -> list[str]:
        """Take away what it did not take back itself, and run none of it. Returns what that was."""
        undone = [*self._unregister(), *self._restore_hooks(), *self._clear_lists(), *self._silence()]
        self._forget_names()
        return undone

    def _unregister(self) -> list[str]:
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

    def _silence(self) -> list[str]:
        """Handlers and filters of its own at loggers of others."""
        undone = []
        for logger in _loggers():
            if _prefix_of(logger.name) == self.prefix:
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
        loggers = logging.Logger.manager.loggerDict
        for name in [each for each in list(loggers) if _prefix_of(each) == self.prefix]:
            loggers.pop(name, None)
        for name, module in sys.modules.copy().items():  # a copy, in one step: others import meanwhile
            if isinstance(module, ModuleType) and self.owns(module):
                sys.modules.pop(name, None)


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


def running(ledger: Ledger, frames: Mapping[int, FrameType]) -> list[str]:
    """The threads that run code of it, and where; a Timer that only waits to do so is called off."""
    found = []
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer) and ledger.owns(thread.function):
            thread.cancel()
            thread.join(1.0)
        frame = frames.get(thread.ident or 0)
        while frame is not None and _prefix_of(frame.f_globals.get("__name__")) != ledger.prefix:
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
        return module_words(thing)
    return f"class {thing.__name__}" if isinstance(thing, type) else f"{type(thing).__name__} object"


def _function(function: FunctionType) -> str:
    code = function.__code__
    return f"{code.co_name!r} ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"


def module_words(module: ModuleType) -> str:
    """``module shared (shared.py)``; a plugin's goes by the plugin's name."""
    names = vars(module)
    name, file = str(names.get("__name__", "?")), names.get("__file__")
    where = f" ({os.path.basename(file)})" if isinstance(file, str) else ""
    return f"plugin {plugin_name(name)}{where}" if name.startswith(SPACE) else f"module {name}{where}"


def plugin_name(module: str) -> str:
    """From ``mkplugin_hello_g2_1.helper`` to ``hello``."""
    return _prefix_of(module).removeprefix(SPACE).rsplit("_g", 1)[0]


def _space(thing: object) -> str:
    if isinstance(thing, partial):
        return _space(thing.func)
    if isinstance(thing, MethodType):
        thing = thing.__func__
    if isinstance(thing, FunctionType):
        return _prefix_of(thing.__globals__.get("__name__"))
    if isinstance(thing, ModuleType):
        return _prefix_of(vars(thing).get("__name__"))
    cls = thing if isinstance(thing, type) else type(thing)
    return _prefix_of(type.__dict__["__module__"].__get__(cls))  # past what a metaclass may answer


def _prefix_of(module: object) -> str:
    name = module.partition(".")[0] if isinstance(module, str) else ""
    return name if name.startswith(SPACE) else ""


def _loggers() -> list[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.values())
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]
