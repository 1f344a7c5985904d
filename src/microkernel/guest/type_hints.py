"""Parse type hints: resolve Annotated, NewType and aliases, and list the fields of a class."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired, Required, TypeVar, Union

from microkernel.guest.records import StructMeta, Unchanged
from microkernel.guest.values import NODEFAULT

UNION = "a union"
_CONCRETE: dict[Any, type] = {
    collections.abc.Collection: list, collections.abc.MutableSequence: list, collections.abc.Sequence: list,
    collections.abc.MutableSet: set, collections.abc.Set: set, collections.abc.MutableMapping: dict,
    collections.abc.Mapping: dict,
}  # fmt: skip
_COLLECTIONS = (list, dict, set, frozenset, tuple)
_Alias = getattr(typing, "TypeAliasType", ())


class Hint(NamedTuple):
    """A type hint without its wrappers."""

    bare: Any
    # ``list`` for ``list[int]`` and ``list``, UNION, ``Literal``; otherwise the class itself.
    origin: Any
    args: tuple[Any, ...] | None


def read(hint: Any) -> Hint:
    """Parse a type hint."""
    while (inner := _unwrapped(hint)) is not hint:
        hint = inner
    origin, args = typing.get_origin(hint), getattr(hint, "__args__", None)
    if origin in (Union, types.UnionType):
        return Hint(hint, UNION, args)
    if origin is None:
        return Hint(hint, _CONCRETE.get(hint, hint) if isinstance(hint, type) else hint, None)
    if origin is tuple and args == ((),):
        args = ()
    return Hint(hint, _CONCRETE.get(origin, origin), args if args or origin is tuple else None)


def _unwrapped(hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return hint.__origin__
    if origin in (Final, Required, NotRequired):
        return hint.__args__[0]
    if isinstance(hint, _Alias):
        return hint.__value__
    if isinstance(origin, _Alias):
        return origin.__value__[hint.__args__]
    return _of_variable(hint) if isinstance(hint, TypeVar) else getattr(hint, "__supertype__", hint)


def _of_variable(hint: TypeVar) -> Any:
    if hint.__bound__ is None and hint.__constraints__:
        raise TypeError(
            f"Unbound TypeVar `{hint!r}` has constraints `{hint.__constraints__!r}` - constraints are currently "
            "unsupported. If possible, either explicitly bind the parameter, or use `bound` instead of constraints."
        )
    return Any if hint.__bound__ is None else hint.__bound__


def members(hint: Any) -> Iterator[Hint]:
    """Yield a hint, or the members of a union."""
    parsed = read(hint)
    if parsed.origin is UNION:
        for each in parsed.args or ():
            yield from members(each)
    else:
        yield parsed


def literals(args: tuple[Any, ...], context: Any) -> Iterator[Any]:
    """Return the values of a ``Literal``. Raises TypeError for those that msgspec refuses."""
    for value in args:
        if typing.get_origin(value) is Literal:
            yield from literals(value.__args__, context)
        elif value is None or type(value) in (bool, int, str):
            yield value
        else:
            raise TypeError(f"Literal may only contain None/booleans/integers/strings - {context!r} is not supported")


class Field(NamedTuple):
    """A field of a class: its name, its type, and how its default is created."""

    name: str
    hint: Any
    make: Callable[[], Any] | None = None
    optional: bool = False
    # The default, if it is a plain value.
    default: Any = NODEFAULT


def is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def is_named_tuple(kind: Any) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, tuple)):
        return False
    return type(getattr(kind, "_fields", None)) is tuple and type(getattr(kind, "_field_defaults", None)) is dict


def is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")


def is_class_of_fields(kind: Any) -> bool:
    """Return whether ``fields`` supports a class."""
    return isinstance(kind, StructMeta) or is_typed_dict(kind) or is_named_tuple(kind) or is_dataclass(kind)


def fields(hint: Any, kind: Any) -> list[Field]:
    """Return the fields of a class, in its order. Raises NameError for type hints that cannot be resolved."""
    found = typing.get_type_hints(kind, include_extras=True)
    variables = dict(zip(getattr(kind, "__parameters__", ()), getattr(hint, "__args__", ()), strict=False))
    if variables:
        found = {name: _applied(each, variables) for name, each in found.items()}
    if isinstance(kind, StructMeta):
        pairs = zip(kind.__struct_fields__, kind.__makers__, strict=True)
        return [Field(name, found[name], make, make is not None, _plain(make)) for name, make in pairs]
    if is_typed_dict(kind):
        return list(_of_typed_dict(kind, found))
    if is_named_tuple(kind):
        defaults = kind._field_defaults
        return [_defaulted(name, found.get(name, Any), defaults.get(name, NODEFAULT)) for name in kind._fields]
    return sorted(_of_dataclass(kind, found), key=lambda field: field.optional)


def _applied(hint: Any, variables: dict[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return variables.get(hint, hint)
    open_ones = getattr(hint, "__parameters__", ())
    return hint[tuple(variables.get(each, each) for each in open_ones)] if open_ones else hint


def _plain(make: Any) -> Any:
    holder = getattr(make, "__self__", None)
    return holder.value if type(holder) is Unchanged else NODEFAULT


def _defaulted(name: str, hint: Any, default: Any) -> Field:
    return Field(name, hint, None if default is NODEFAULT else lambda: default, default is not NODEFAULT, default)


def _of_typed_dict(kind: Any, found: dict[str, Any]) -> Iterator[Field]:
    required = set(kind.__required_keys__)
    for name, hint in found.items():
        wrapped = typing.get_origin(hint)
        needed = wrapped is Required or (name in required and wrapped is not NotRequired)
        yield Field(name, hint, None, not needed)


def _of_dataclass(kind: Any, found: dict[str, Any]) -> Iterator[Field]:
    if any(type(hint) is dataclasses.InitVar for hint in found.values()):
        raise TypeError("dataclasses with `InitVar` fields are not supported")
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            yield Field(field.name, found[field.name], field.default_factory, True)
        else:
            default = NODEFAULT if field.default is dataclasses.MISSING else field.default
            yield _defaulted(field.name, found[field.name], default)
