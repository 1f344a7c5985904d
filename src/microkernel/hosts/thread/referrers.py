"""Find what keeps objects alive: search back through their referrers to something that a person recognises.

The search sees what the collector sees: Python objects, and those of extensions that support it. It does not see the
local variables of running code, nor what other C code holds.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Sequence
from logging import Logger
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CoroutineType,
    FrameType,
    GeneratorType,
    GetSetDescriptorType,
    ModuleType,
    TracebackType,
)
from typing import Any
from weakref import ref

from microkernel.hosts.thread.interpreter_state import (
    InterpreterState,
    describe,
    describe_module,
    is_of_plugin,
    plugin_name,
)

_MAX_DEPTH = 12
# Objects that are visited.
_MAX_OBJECTS = 2_000
_MAX_SECONDS = 2.0
_MAX_LINES = 10
# Links of a chain that are named; the others are counted.
_MAX_LINKS = 4
_UNNAMED = (CellType, GetSetDescriptorType, BuiltinFunctionType)
_CONTAINERS = (list, dict, set, frozenset, tuple)


class ReferrerSearch:
    """Breadth-first search from the targets; each step scans all objects of the process. ``run`` once."""

    def __init__(self, targets: Sequence[ref[Any]], state: InterpreterState) -> None:
        self._interpreter_state = state
        # Nothing else here may refer to the targets: it would be found as a referrer.
        self._objects = [target for target in (each() for each in targets) if target is not None]
        self._towards = [-1] * len(self._objects)
        self._origin = list(range(len(self._objects)))
        self._index = {id(target): number for number, target in enumerate(self._objects)}
        self._modules = _dicts_of_modules(state)
        self._until = time.monotonic() + _MAX_SECONDS
        self._lines: dict[str, None] = {}
        self._reported: set[int] = set()
        self.gave_up = ""

    def run(self) -> list[str]:
        """Return what keeps the targets alive, a line for each; empty if nothing was recognised.

        ``gave_up`` says where the search ended early.
        """
        begin = 0
        for _ in range(_MAX_DEPTH):
            end = len(self._objects)
            if begin == end or self.gave_up:
                break
            self._step(begin, end)
            begin = end
        else:
            self.gave_up = f"after {_MAX_DEPTH} steps"
        self._objects.clear()
        lines = list(self._lines)
        more = len(lines) - _MAX_LINES
        return [*lines[:_MAX_LINES], f"and {more} more"] if more > 0 else lines

    def _step(self, begin: int, end: int) -> None:
        batch = tuple(self._objects[begin:end])  # a tuple, because the call would make another of a list
        hidden = {id(batch), id(self._objects)}
        referrers = gc.get_referrers(*batch)
        hidden.add(id(referrers))
        for referrer in referrers:
            if id(referrer) in self._index or id(referrer) in hidden:
                continue
            if len(self._objects) >= _MAX_OBJECTS or time.monotonic() > self._until:
                self.gave_up = f"after {len(self._objects)} objects"
                return
            number = self._towards_which(referrer, begin, end)
            if number >= 0:
                self._visit(referrer, number)

    def _towards_which(self, referrer: object, begin: int, end: int) -> int:
        """Return the object of this step that the referrer refers to; -1 if it no longer does.

        Of several, the one that leads to the first target, the Plugin object.
        """
        numbers = [self._index.get(id(each), -1) for each in gc.get_referents(referrer)]
        return min((n for n in numbers if begin <= n < end), key=self._origin.__getitem__, default=-1)

    def _visit(self, referrer: object, number: int) -> None:
        root = self._root(referrer, number)
        if root is None:
            self._index[id(referrer)] = len(self._objects)
            self._objects.append(referrer)
            self._towards.append(number)
            self._origin.append(self._origin[number])
        elif number not in self._reported:  # one name is enough for an object with several
            self._reported.add(number)
            self._lines[self._line(root, number)] = None

    # Ends of the search

    def _root(self, referrer: object, number: int) -> str | None:
        """Return the name of a referrer that a person recognises; None if the search is to continue above it."""
        held, below = self._objects[number], self._objects[max(0, self._towards[number])]
        module = self._modules.get(id(referrer))
        if module is not None:
            return f"{_key(referrer, held)} of {module}"
        if isinstance(referrer, threading.Thread) and referrer.is_alive():
            return f"a running thread {referrer.name!r}"
        if isinstance(referrer, Logger):
            return f"logger {referrer.name!r}"
        if isinstance(referrer, ModuleType):
            return describe_module(referrer) if not self._interpreter_state.owns(referrer) else None
        if isinstance(referrer, type):
            return self._class_root(referrer, held, below)
        if is_of_plugin(referrer) and not self._interpreter_state.owns(referrer):
            name, owner = _key(getattr(referrer, "__dict__", {}), held, below), plugin_name(type(referrer).__module__)
            return f"{name} of {type(referrer).__name__} object of plugin {owner}"
        return None

    def _class_root(self, cls: type, held: object, below: object) -> str | None:
        if self._interpreter_state.owns(cls):
            return None
        return f"{_key(vars(cls), held, below)} of class {cls.__module__}.{cls.__qualname__}"

    # Words

    def _line(self, root: str, number: int) -> str:
        """Return ``Plugin object: kept by list 'SEEN' of module shared (shared.py)``."""
        chain = [self._objects[number]]
        while (number := self._towards[number]) >= 0:
            chain.append(self._objects[number])
        return describe_chain(chain[-1], chain[-2::-1] if len(chain) > 1 else [], root)


def describe_chain(target: object, chain: Sequence[object], root: str) -> str:
    """Describe a chain. ``chain`` leads from the target to the root, without either."""
    words = [link for link in map(_link, chain) if link]
    more = len(words) - _MAX_LINKS
    if more > 0:
        words[_MAX_LINKS:] = [f"{more} more"]
    if words and root.startswith("'") and not _is_scaffold(chain[-1]) and _kind(chain[-1]):
        root = f"{words.pop()} {root}"  # a name is clearer together with the object that it names
    return f"{describe(target)}: kept by {', in '.join([*words, root])}"


def _link(thing: object) -> str:
    if isinstance(thing, _UNNAMED) or _is_scaffold(thing):
        return ""
    if isinstance(thing, FrameType):
        return f"a frame of {thing.f_code.co_name} ({thing.f_code.co_filename.rpartition('/')[2]}:{thing.f_lineno})"
    if isinstance(thing, TracebackType):
        return "a traceback"
    if isinstance(thing, GeneratorType | CoroutineType | AsyncGeneratorType):
        return f"{type(thing).__name__} {thing.__qualname__!r}"
    return _kind(thing) or describe(thing)


def _is_scaffold(thing: object) -> bool:
    """Return whether it is the dict of an object or a module, or a closure's tuple: part of what is named already."""
    if not isinstance(thing, dict | tuple):
        return False
    return isinstance(thing, tuple) or "__name__" in thing or all(isinstance(key, str) for key in thing)


def _kind(thing: object) -> str:
    return type(thing).__name__ if isinstance(thing, _CONTAINERS) else ""


def _key(names: Any, *held: object) -> str:
    """Return the name that refers to the object, or to the object inside, where that is the dict of names itself."""
    for name, value in dict(names).items():  # a copy, in one step
        if any(value is each for each in held):
            return repr(name)
    return "an attribute"


def _dicts_of_modules(state: InterpreterState) -> dict[int, str]:
    """Return the description of each module by the identity of its dict, without the plugin's own."""
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    return {id(vars(module)): describe_module(module) for module in modules if not state.owns(module)}
