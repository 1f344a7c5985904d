"""``@on``, ``@expose`` and ``@every`` mark methods; the runtime registers them after ``__init__``, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])
Overflow = Literal["block", "drop_oldest", "drop_newest", "reject"]

_MARKS = "__microkernel_marks__"


@dataclass(frozen=True, slots=True)
class OnMark:
    topic: str
    once: bool
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class ExposeMark:
    name: str


@dataclass(frozen=True, slots=True)
class EveryMark:
    seconds: float


Mark = OnMark | ExposeMark | EveryMark


def on(topic: str, *, once: bool = False, overflow: Overflow = "block") -> Callable[[F], F]:
    """Handle the events of a topic, or of all that a pattern (``*`` one word, ``**`` any tail) matches."""
    return lambda function: _mark(function, OnMark(topic, once, overflow))


@overload
def expose(function: F, /) -> F: ...
@overload
def expose(*, name: str) -> Callable[[F], F]: ...
def expose(function: Any = None, /, *, name: str | None = None) -> Any:
    """Make a method callable by other plugins, under its own or the given name."""
    if function is not None:
        return _mark(function, ExposeMark(function.__name__))
    return lambda function: _mark(function, ExposeMark(name or function.__name__))


def every(seconds: float) -> Callable[[F], F]:
    """Run a method again and again; a beat that finds the one before still running is skipped."""
    return lambda function: _mark(function, EveryMark(seconds))


def _mark(function: F, mark: Mark) -> F:
    setattr(function, _MARKS, (*getattr(function, _MARKS, ()), mark))
    return function


def marked(plugin: object) -> Iterator[tuple[Any, Mark]]:
    """The bound methods of ``plugin`` that carry marks, base classes first, in the order they are written."""
    names: dict[str, None] = {}
    for cls in reversed(type(plugin).__mro__):
        names.update(dict.fromkeys(vars(cls)))
    for name in names:
        marks = getattr(getattr(type(plugin), name, None), _MARKS, ())
        for mark in marks:
            yield getattr(plugin, name), mark
