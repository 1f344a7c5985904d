"""The registrations of an instance: handlers by number, methods by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import getattr_static
from types import CoroutineType
from typing import Any

from microkernel.errors import MethodNotFound, PluginLoadError
from microkernel.sdk.binding.signature import CallBinder, EventBinder, name_of, returns_of
from microkernel.sdk.decorators import Overflow, check_overflow
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode_message, plain_text


def is_async(function: Any) -> bool:
    """Return whether calling the function returns a coroutine."""
    return any(map(inspect.iscoroutinefunction, _bodies(function)))


def check_runs(function: Any) -> None:
    """Raise PluginLoadError for a generator function: calling it runs nothing, and a generator cannot be sent."""
    if not callable(function):
        raise TypeError(f"a function is needed, got {type(function).__name__}")
    for body in _bodies(function):
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise PluginLoadError("MK0133", what=name_of(function))


def refuse_coroutine(value: CoroutineType[Any, Any, Any]) -> None:
    """Raise TypeError for a coroutine returned by a function that is not ``async``, such as ``lambda:
    self.async_method()``: it would never run."""
    name = value.__qualname__
    value.close()
    raise TypeError(f"it returned the coroutine {name}, which nothing awaits; register the async function itself")


def _bodies(function: Any) -> tuple[Any, Any]:
    """Return the functions that run in a call: the function itself, and the ``__call__`` of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr_static(type(function), "__call__", None)


class HandlerBinding:
    """A handler, and the binder of its parameters.

    ``decode`` is the binder's direct decoder; None if the handler is async or there is none.
    """

    __slots__ = ("binder", "decode", "function", "is_async", "wire")

    def __init__(self, function: Callable[..., Any], wire: messages.Handler) -> None:
        self.function = function
        self.is_async = is_async(function)
        self.binder = EventBinder(function, board=wire.board)
        self.decode = None if self.is_async else self.binder.direct
        self.wire = wire


class MethodBinding:
    """A method, and the binder of its parameters. ``decode`` as in HandlerBinding."""

    __slots__ = ("binder", "decode", "function", "is_async", "wire")

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.is_async = is_async(function)
        self.binder = CallBinder(function)
        self.decode = None if self.is_async else self.binder.direct
        self.wire = messages.Method(
            name,
            self.binder.signature(),
            plain_text(inspect.getdoc(function) or ""),
            _encoded(self.binder.schema()),
            plain_text(returns_of(function)),
        )


def _encoded(schema: dict[str, Any]) -> Raw:
    """Encode a schema; leave it out if it is larger than the kernel accepts. It is informative, calls do not need
    it."""
    data = encode_message(schema)
    return Raw(data) if len(data) <= messages.MAX_SCHEMA else messages.EMPTY_MAP


class Handlers:
    """The handlers and methods of an instance. Handlers run in the order of their numbers, which is the order of
    registration."""

    def __init__(self) -> None:
        self.by_number: dict[int, HandlerBinding] = {}
        self.methods: dict[str, MethodBinding] = {}
        # Numbers of the registered handlers with one pattern and name: the second is ``name#2``.
        self._copies: dict[tuple[str, str], set[int]] = {}
        self._copy_of: dict[int, tuple[tuple[str, str], int]] = {}
        self._next = 1

    def add(
        self, pattern: str, function: Callable[..., Any], once: bool, overflow: Overflow, board: bool
    ) -> HandlerBinding:
        """Register a handler under the next number. Its name is made unique among the handlers of the same pattern."""
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
        """Remove a handler. Return whether it was registered."""
        if self.by_number.pop(number, None) is None:
            return False
        key, copy = self._copy_of.pop(number)
        self._copies[key].discard(copy)
        if not self._copies[key]:
            del self._copies[key]
        return True

    def _free_copy(self, key: tuple[str, str]) -> int:
        """Return the next number for a handler of this pattern and name, or one that was freed by a removal."""
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
        """Return a method by its name. Raises MethodNotFound."""
        try:
            return self.methods[name]
        except KeyError:
            raise MethodNotFound("MK0604", target=f"{plugin}.{name}", suggestion="") from None


def warm_up() -> None:
    """Register an example, so that what the first registration compiles or caches is ready."""

    def example(number: int = 0, text: str = "") -> str:
        """Serves as a handler and as a method."""
        return number * text

    handlers = Handlers()
    handlers.add("a.b", example, once=False, overflow="block", board=False)
    handlers.expose(example, None)
