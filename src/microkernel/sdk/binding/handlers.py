"""What an instance has registered: handlers by number, methods by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import getattr_static
from typing import Any

from microkernel.errors import MethodNotFound, PluginLoadError
from microkernel.sdk.binding.signature import CallBinder, EventBinder, name_of, returns_of
from microkernel.sdk.decorators import Overflow, check_overflow
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode_message, plain_text


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    return any(map(inspect.iscoroutinefunction, _bodies(function)))


def check_runs(function: Any) -> None:
    """Raise PluginLoadError for a generator function: to call it runs nothing, and what it gives cannot be sent."""
    if not callable(function):
        raise TypeError(f"a function is needed, got {type(function).__name__}")
    for body in _bodies(function):
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise PluginLoadError("MK0133", what=name_of(function))


def _bodies(function: Any) -> tuple[Any, Any]:
    """What runs when it is called: itself, or the ``__call__`` of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr_static(type(function), "__call__", None)


class HandlerBinding:
    """A handler and how to fill its parameters."""

    __slots__ = ("binder", "function", "is_async", "wire")

    def __init__(self, function: Callable[..., Any], wire: messages.Handler) -> None:
        self.function = function
        self.is_async = is_async(function)
        self.binder = EventBinder(function, board=wire.board)
        self.wire = wire


class MethodBinding:
    """A method and how to fill its parameters."""

    __slots__ = ("binder", "function", "is_async", "wire")

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.is_async = is_async(function)
        self.binder = CallBinder(function)
        self.wire = messages.Method(
            name,
            self.binder.signature(),
            plain_text(inspect.getdoc(function) or ""),
            _encoded(self.binder.schema()),
            plain_text(returns_of(function)),
        )


def _encoded(schema: dict[str, Any]) -> Raw:
    """A schema that is larger than the kernel takes is left out: it is for people and tools, calls do without it."""
    data = encode_message(schema)
    return Raw(data) if len(data) <= messages.MAX_SCHEMA else messages.EMPTY_MAP


class Handlers:
    """The tables. Handlers of one plugin run in the order they were registered: the order of their numbers."""

    def __init__(self) -> None:
        self.by_number: dict[int, HandlerBinding] = {}
        self.methods: dict[str, MethodBinding] = {}
        self._copies: dict[tuple[str, str], set[int]] = {}
        """Which of a pattern's handlers of one name are there: the second is ``name#2``."""
        self._copy_of: dict[int, tuple[tuple[str, str], int]] = {}
        self._next = 1

    def add(
        self, pattern: str, function: Callable[..., Any], once: bool, overflow: Overflow, board: bool
    ) -> HandlerBinding:
        """Number a handler. Its name is made unique among the handlers of the same pattern."""
        check_runs(function)
        check_overflow(overflow)
        key = (pattern, name_of(function))
        copy = self._free_copy(key)
        name = key[1] if copy == 1 else f"{key[1]}#{copy}"
        registered = HandlerBinding(function, messages.Handler(self._next, pattern, name, once, overflow, board))
        self._copies.setdefault(key, set()).add(copy)
        self._copy_of[self._next] = key, copy
        self.by_number[self._next] = registered
        self._next += 1
        return registered

    def remove(self, number: int) -> bool:
        """Whether it was there."""
        if self.by_number.pop(number, None) is None:
            return False
        key, copy = self._copy_of.pop(number)
        self._copies[key].discard(copy)
        if not self._copies[key]:
            del self._copies[key]
        return True

    def _free_copy(self, key: tuple[str, str]) -> int:
        """The next, or where one was removed, a number before it."""
        copies = self._copies.get(key, set())
        copy = len(copies) + 1
        while copy in copies:
            copy -= 1
        return copy

    def expose(self, function: Callable[..., Any], name: str | None) -> MethodBinding:
        check_runs(function)
        exposed = MethodBinding(function, name or str(getattr(function, "__name__", "call")))
        self.methods[exposed.wire.name] = exposed
        return exposed

    def method(self, plugin: str, name: str) -> MethodBinding:
        """Raises MethodNotFound."""
        try:
            return self.methods[name]
        except KeyError:
            raise MethodNotFound("MK0604", target=f"{plugin}.{name}", suggestion="") from None


def rehearse() -> None:
    """What is compiled, or looked up and kept, when something is registered for the first time."""

    def example(number: int = 0, text: str = "") -> str:
        """A handler, or a method."""
        return number * text

    handlers = Handlers()
    handlers.add("a.b", example, once=False, overflow="block", board=False)
    handlers.expose(example, None)
