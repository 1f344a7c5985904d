"""The decorators ``@on``, ``@expose`` and ``@every``.

They mark functions; the runtime registers the marked methods after ``__init__``, in the order they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partialmethod
from inspect import getattr_static
from typing import Any, Literal, TypeVar, get_args, overload

from microkernel.errors import PluginLoadError
from microkernel.wire.light_dataclasses import dataclass

F = TypeVar("F", bound=Callable[..., Any])
Overflow = Literal["block", "drop_oldest", "drop_newest", "reject"]


def check_overflow(overflow: object) -> None:
    """Raise ValueError unless ``overflow`` is one of the policies for a full mailbox."""
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


MethodSpec = OnSpec | ExposeSpec | EverySpec


def on(topic: str, *, once: bool = False, overflow: Overflow = "block") -> Callable[[F], F]:
    """Mark a method as the handler of a topic or pattern.

    Options and parameters are those of ``PluginAPI.on``. Raises TypeError if ``topic`` is not a str, ValueError for an
    unknown ``overflow``. A malformed topic raises BadTopic when the plugin is loaded.
    """
    if not isinstance(topic, str):
        raise TypeError('@on needs a topic: @on("order.created")')
    check_overflow(overflow)
    return lambda function: _mark(function, OnSpec(topic, once, overflow))


@overload
def expose(function: F, /) -> F: ...
@overload
def expose(*, name: str) -> Callable[[F], F]: ...
def expose(function: Any = None, /, *, name: str | None = None) -> Any:
    """Make a method callable by other plugins as ``<plugin>.<name>``; ``name`` defaults to the method's own name.

    Use as ``@expose`` or ``@expose(name="total")``.
    """
    if isinstance(function, str):
        raise TypeError(f"@expose takes a name by keyword: @expose(name={function!r})")
    if function is not None:
        return _mark(function, ExposeSpec(""))
    return lambda function: _mark(function, ExposeSpec(name or ""))


def every(seconds: float) -> Callable[[F], F]:
    """Mark a method to run every ``seconds`` seconds after ``start``, one at a time with the handlers.

    A run that is due while the previous one still runs is skipped. Raises TypeError if ``seconds`` is not a number.
    """
    if not isinstance(seconds, int | float):
        raise TypeError("@every needs seconds: @every(60)")
    return lambda function: _mark(function, EverySpec(seconds))


def _mark(function: F, mark: MethodSpec) -> F:
    """Add a mark to a function. Decorators that wrap methods may stand above or below this one, see ``_marks_of``."""
    try:
        setattr(function, _MARKS, (*_own_marks(function), mark))
    except AttributeError:  # a property or a builtin
        raise TypeError(f"{_kind(function)} cannot be marked with @on, @expose or @every: write a method") from None
    return function


def marked_members(plugin: object) -> Iterator[tuple[Any, MethodSpec]]:
    """Yield each marked member of ``plugin``, bound to it, with its mark: base classes first, in the order written.

    Only marked attributes are evaluated. Raises PluginLoadError MK0132 for a marked attribute that is not callable.
    """
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
    """Return the attributes that a class and its bases define, without invoking descriptors."""
    return {name: value for base in reversed(cls.__mro__) if base is not object for name, value in vars(base).items()}


def bare(attribute: Any) -> Any:
    """Return the function inside ``staticmethod``, ``classmethod`` and the like; return anything else unchanged."""
    for kind, inner in _WRAPPINGS.items():
        if isinstance(attribute, kind):
            return bare(getattr(attribute, inner))
    return attribute


_WRAPPINGS: dict[type, str] = {
    staticmethod: "__func__", classmethod: "__func__", property: "fget", cached_property: "func",
    partialmethod: "func",
}  # fmt: skip


def _marks_of(attribute: Any) -> tuple[MethodSpec, ...]:
    inner = bare(attribute)
    return _own_marks(attribute) if inner is attribute else (*_own_marks(inner), *_own_marks(attribute))


def _own_marks(attribute: Any) -> tuple[MethodSpec, ...]:
    marks = getattr_static(attribute, _MARKS, ())
    return marks if isinstance(marks, tuple) else ()


def _name_of(function: Any, attribute: str) -> str:
    """Return the function's own name if it is an identifier, else the attribute's."""
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else attribute


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
