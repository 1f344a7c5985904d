"""``@on``, ``@expose`` and ``@every`` mark methods; the runtime registers them after ``__init__``, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partialmethod
from inspect import getattr_static
from typing import Any, Literal, TypeVar, get_args, overload

from microkernel.errors import PluginLoadError

F = TypeVar("F", bound=Callable[..., Any])
Overflow = Literal["block", "drop_oldest", "drop_newest", "reject"]


def check_overflow(overflow: object) -> None:
    """Raises ValueError for what no full mailbox can do."""
    known = get_args(Overflow)
    if overflow not in known:
        raise ValueError(f"overflow must be one of {', '.join(known)}, got {overflow!r}")


_MARKS = "__microkernel_marks__"


@dataclass(frozen=True, slots=True)
class OnSpec:
    topic: str
    once: bool
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class ExposeSpec:
    name: str


@dataclass(frozen=True, slots=True)
class EverySpec:
    seconds: float


Mark = OnSpec | ExposeSpec | EverySpec


def on(topic: str, *, once: bool = False, overflow: Overflow = "block") -> Callable[[F], F]:
    """Handle the events of a topic, or of all that a pattern (``*`` one word, ``**`` any tail) matches."""
    if not isinstance(topic, str):
        raise TypeError('@on needs a topic: @on("order.created")')
    check_overflow(overflow)
    return lambda function: _mark(function, OnSpec(topic, once, overflow))


@overload
def expose(function: F, /) -> F: ...
@overload
def expose(*, name: str) -> Callable[[F], F]: ...
def expose(function: Any = None, /, *, name: str | None = None) -> Any:
    """Make a method callable by other plugins, under its own or the given name."""
    if isinstance(function, str):
        raise TypeError(f"@expose takes a name by keyword: @expose(name={function!r})")
    if function is not None:
        return _mark(function, ExposeSpec(""))
    return lambda function: _mark(function, ExposeSpec(name or ""))


def every(seconds: float) -> Callable[[F], F]:
    """Run a method again and again; a beat that finds the one before still running is skipped."""
    if not isinstance(seconds, int | float):
        raise TypeError("@every needs seconds: @every(60)")
    return lambda function: _mark(function, EverySpec(seconds))


def _mark(function: F, mark: Mark) -> F:
    """A decorator that wraps a method, below this one or above it, may be one of Python's: see ``_marks_of``."""
    try:
        setattr(function, _MARKS, (*_own_marks(function), mark))
    except AttributeError:  # a property, something built in
        raise TypeError(f"{_kind(function)} cannot be marked with @on, @expose or @every: write a method") from None
    return function


def marked(plugin: object) -> Iterator[tuple[Any, Mark]]:
    """What of ``plugin`` carries marks, bound to it: base classes first, in the order written. Nothing else is
    evaluated. Raises PluginLoadError MK0132 for what cannot be called."""
    for name, attribute in members(type(plugin)).items():
        for mark in _marks_of(attribute):
            what = f"{type(plugin).__qualname__}.{name}"
            if isinstance(attribute, property | cached_property):
                raise PluginLoadError("MK0132", what=what, kind=_kind(attribute))
            bound = getattr(plugin, name)
            if not callable(bound):
                raise PluginLoadError("MK0132", what=what, kind=_kind(bound))
            yield bound, ExposeSpec(_name_of(bound, name)) if mark == ExposeSpec("") else mark


def members(cls: type) -> dict[str, Any]:
    """What a class and its bases define, as it is written there: no descriptor is asked."""
    return {name: value for base in reversed(cls.__mro__) if base is not object for name, value in vars(base).items()}


def bare(attribute: Any) -> Any:
    """The function in one of Python's wrappings of methods; anything else as it is."""
    for kind, inner in _WRAPPINGS.items():
        if isinstance(attribute, kind):
            return bare(getattr(attribute, inner))
    return attribute


_WRAPPINGS: dict[type, str] = {
    staticmethod: "__func__", classmethod: "__func__", property: "fget", cached_property: "func",
    partialmethod: "func",
}  # fmt: skip


def _marks_of(attribute: Any) -> tuple[Mark, ...]:
    inner = bare(attribute)
    return _own_marks(attribute) if inner is attribute else (*_own_marks(inner), *_own_marks(attribute))


def _own_marks(attribute: Any) -> tuple[Mark, ...]:
    marks = getattr_static(attribute, _MARKS, ())
    return marks if isinstance(marks, tuple) else ()


def _name_of(function: Any, attribute: str) -> str:
    """Its own name, if it has one by which it can be called."""
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else attribute


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
