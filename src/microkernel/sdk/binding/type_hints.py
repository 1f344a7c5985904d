"""Refuse type hints that no payload can fit, when a handler or method is registered."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from enum import Enum
from inspect import Parameter
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Union

from microkernel.errors import PluginLoadError
from microkernel.wire import codec
from microkernel.wire.plain import is_convertible

_SIMPLE = frozenset({Any, None, type(None), bool, int, float, str, bytes, list, dict, tuple, set, frozenset})
_CONTAINERS = frozenset({
    list, dict, tuple, set, frozenset, collections.abc.Collection, collections.abc.MutableSequence,
    collections.abc.Sequence, collections.abc.MutableSet, collections.abc.Set, collections.abc.MutableMapping,
    collections.abc.Mapping,
})  # fmt: skip
_WRAPPERS = (Annotated, typing.Final, typing.Required, typing.NotRequired)
_ALIAS: Any = getattr(typing, "TypeAliasType", ())
# One payload of each type. A class of which one is an instance (``object``, ``Sized``) accepts it unchanged.
_PAYLOADS: tuple[Any, ...] = (None, True, 1, 1.5, "", b"", [], {}, datetime(2026, 1, 1, tzinfo=UTC))


def check_hints(what: str, parameters: Iterable[Parameter]) -> None:
    """Check the type hints of a function's parameters.

    Raises PluginLoadError MK0136, naming the parameter, for a hint that no payload fits, and MK0122 for a hint that the
    codec cannot read.
    """
    for parameter in parameters:
        hint = parameter.annotation
        if _is_simple(hint):
            continue
        try:
            wrong = next(_misfits(hint, set()), _NONE)
            if wrong is _NONE:
                codec.decoder_for(hint)
        except Exception as failure:
            raise PluginLoadError("MK0122", what=f"{what}({parameter.name})", reason=str(failure)) from None
        if wrong is not _NONE:
            fields = {"what": what, "parameter": parameter.name, "hint": _name(wrong), "cure": _cure(wrong)}
            raise PluginLoadError("MK0136", **fields)


_NONE = object()


def _is_simple(hint: Any) -> bool:
    try:
        return hint in _SIMPLE
    except TypeError:  # unhashable, as the metadata of an Annotated may be
        return False


def _misfits(hint: Any, seen: set[Any]) -> Iterator[Any]:
    """Return the types in a hint that no payload fits and that nothing converts to."""
    if _is_simple(hint) or isinstance(hint, ForwardRef | str) or typing.get_origin(hint) is Literal:
        return
    inner = _inside(hint)
    if inner is None:
        if not is_convertible(typing.get_origin(hint) or hint) and not _takes_a_payload(hint):
            yield hint
        return
    if (mark := repr(hint)) not in seen:  # a class may have fields of the class itself
        seen.add(mark)
        for each in inner:
            yield from _misfits(each, seen)


def _inside(hint: Any) -> Iterable[Any] | None:
    """Return the hints that a hint consists of; None for a class that the codec does not know."""
    origin, args = typing.get_origin(hint), getattr(hint, "__args__", ())
    if origin in _WRAPPERS:
        return (hint.__origin__,) if origin is Annotated else args
    if isinstance(hint, _ALIAS) or isinstance(origin, _ALIAS):
        return ((origin or hint).__value__, *(args if origin else ()))
    if isinstance(hint, TypeVar):
        return () if hint.__bound__ is None else (hint.__bound__,)
    if hasattr(hint, "__supertype__"):
        return (hint.__supertype__,)
    if origin in (Union, types.UnionType) or (origin or hint) in _CONTAINERS:
        return [each for each in args if each is not ...]
    if _is_known(origin or hint):
        return ()
    return _fields(hint, origin, args)


def _fields(hint: Any, origin: Any, args: Iterable[Any]) -> Iterable[Any] | None:
    kind = origin or hint
    is_named_tuple = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    is_typed_dict = isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")
    if is_named_tuple or is_typed_dict or any(hasattr(kind, mark) for mark in codec.MARKS_OF_RECORDS):
        return (*typing.get_type_hints(kind, include_extras=True).values(), *args)
    return None


def _is_known(kind: Any) -> bool:
    return isinstance(kind, type) and (kind in codec.KNOWN_TYPES or issubclass(kind, Enum))


def _takes_a_payload(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    if not isinstance(kind, type):
        return True  # not a class, so the codec decides
    try:
        return any(isinstance(payload, kind) for payload in _PAYLOADS)
    except TypeError:  # a Protocol that does not support isinstance
        return False


def _name(hint: Any) -> str:
    return getattr(hint, "__qualname__", "") if isinstance(hint, type) else str(hint)


def _cure(hint: Any) -> str:
    kind = typing.get_origin(hint) or hint
    module = getattr(kind, "__module__", "")
    if hasattr(kind, "__array_interface__") or hasattr(kind, "__array_priority__"):
        return "list[float] or Buffer"
    if isinstance(kind, type) and issubclass(kind, float | int | str | bytes):
        return next(base.__name__ for base in (float, int, str, bytes) if issubclass(kind, base))
    if isinstance(kind, type) and issubclass(kind, datetime):
        return "datetime"
    if isinstance(kind, type) and issubclass(kind, collections.abc.Mapping):
        return "dict"
    if isinstance(kind, type) and issubclass(kind, collections.abc.Iterable) and module != "ipaddress":
        return "list"
    return (
        "str"
        if module in ("pathlib", "pathlib._local", "ipaddress", "zoneinfo", "fractions", "re")
        else ("str, dict or a dataclass")
    )
