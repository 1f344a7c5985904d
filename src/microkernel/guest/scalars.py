"""Converters of single values, and the names that msgspec uses in its errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from microkernel.guest import datetimes
from microkernel.guest.values import Ext, Mismatch, Raw

# None if the value needs no conversion.
Maker = Callable[[Any], Any] | None


class Kind(NamedTuple):
    """A kind of type: its name in an error, and the functions that convert each accepted class of values."""

    word: str
    takes: dict[Any, Maker]


STR_LIKE = ("str", "bytes", "datetime", "date", "time", "duration", "uuid", "decimal")
# In the order in which a union names and tries them.
KIND_ORDER = ("bool", "int", "float", *STR_LIKE, "ext", "object", "array", "null")

_UUID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise Mismatch("Invalid UUID")
    return UUID(text)


def _uuid_of_bytes(data: Any) -> UUID:
    if len(data) != 16:
        raise Mismatch("Invalid UUID bytes")
    return UUID(bytes=bytes(data))


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise Mismatch("Invalid decimal string") from None


def _float_of_int(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Mismatch("Number out of range") from None


def _decimal_of_float(value: float) -> Decimal:
    return Decimal(repr(value)) if math.isfinite(value) else Decimal(value)


def _bytes_as(make: Callable[[Any], Any], own: type) -> dict[Any, Maker]:
    return {kind: None if kind is own else make for kind in (bytes, bytearray, memoryview)}


converted: dict[Any, Kind] = {
    type(None): Kind("null", {type(None): None}),
    bool: Kind("bool", {bool: None}),
    int: Kind("int", {int: None}),
    float: Kind("float", {float: None, int: _float_of_int, Decimal: float}),
    str: Kind("str", {str: None}),
    bytes: Kind("bytes", _bytes_as(bytes, bytes)),
    bytearray: Kind("bytes", _bytes_as(bytearray, bytearray)),
    memoryview: Kind("bytes", _bytes_as(memoryview, memoryview)),
    datetime: Kind("datetime", {datetime: None}),
    date: Kind("date", {date: None, str: datetimes.date_of}),
    time: Kind("time", {time: None, str: datetimes.time_of}),
    timedelta: Kind("duration", {timedelta: None, str: datetimes.timedelta_of}),
    UUID: Kind("uuid", {UUID: None, str: _uuid} | dict.fromkeys((bytes, bytearray, memoryview), _uuid_of_bytes)),
    Decimal: Kind("decimal", {Decimal: None, str: _decimal, int: Decimal, float: _decimal_of_float}),
    Ext: Kind("ext", {Ext: None}),
}
decoded = converted | {datetime: Kind("datetime", {datetime: None, str: datetimes.datetime_of})}

_NAMES: dict[type, str] = {
    type(None): "null", list: "array", tuple: "array", dict: "object", bytearray: "bytes", memoryview: "bytes",
    timedelta: "duration", UUID: "uuid", Decimal: "decimal", Ext: "ext", Raw: "raw", datetime: "datetime",
    date: "date", time: "time",
}  # fmt: skip
_BASES = {str: "str", int: "int", list: "array", dict: "object", bytes: "bytes", UUID: "uuid"}


def name_of(value: Any) -> str:
    """Return the name of a value in an error of a conversion."""
    kind = type(value)
    if kind in _NAMES:
        return _NAMES[kind]
    if issubclass(kind, set | frozenset):
        return "set"
    if issubclass(kind, tuple):
        return "array"
    return next((name for base, name in _BASES.items() if issubclass(kind, base) and kind is not bool), c_name(kind))


def name_of_code(value: Any) -> str:
    """Return the name of an unpacked value in errors that depend only on its first byte."""
    return "ext" if isinstance(value, datetime) else name_of(value)


def name_of_decoded(value: Any) -> str:
    """Return the name of an unpacked value in an error."""
    return "None" if value is None else name_of_code(value)


# Flags of a class: newer Pythons also allocate their own classes on the heap, but make them immutable.
_ON_HEAP, _IMMUTABLE = 1 << 9, 1 << 8


def c_name(kind: type) -> str:
    """Return the name of a class as C code sees it: with its module if it is written in C."""
    in_python = kind.__flags__ & (_ON_HEAP | _IMMUTABLE) == _ON_HEAP
    return kind.__name__ if in_python or kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def enum_kind(kind: Any, context: Any, decoding: bool) -> Kind:
    """Return the kind of an Enum whose values are all ints or all strs."""
    known: dict[Any, Enum] = {member.value: member for member in kind.__members__.values()}
    if not known:
        raise TypeError("Enum types must have at least one item, {} is invalid")
    base = int if issubclass(kind, int) or all(type(v) is int for v in known) else str
    if base is str and not issubclass(kind, str) and not all(type(value) is str for value in known):
        raise TypeError(f"Enums must contain either all str or all int values - type `{context!r}` is not supported")

    def convert(value: Any) -> Any:
        found = known.get(value)
        return found if found is not None else _missing(kind, value)

    as_it_is: dict[Any, Maker] = {} if decoding or base is int else {kind: None}
    return Kind(base.__name__, {base: convert} | as_it_is)


def _missing(kind: Any, value: Any) -> Any:
    try:
        found = kind._missing_(value)
    except Exception:  # the program's ``_missing_`` may raise anything; msgspec treats all of it as a refusal
        found = None
    if found is None:
        raise Mismatch(f"Invalid enum value {value!r}")
    return found


def literal_kinds(values: list[Any], plain: set[Any]) -> list[Kind]:
    """Return the kinds of the values of all ``Literal`` in a union; values of a type that is in the union as a whole
    are dropped."""
    kinds = []
    for base in (bool, int, str):
        known = {value for value in values if type(value) is base}
        if known and base not in plain:
            kinds.append(Kind(base.__name__, {base: _one_of(known)}))
    return kinds + ([converted[type(None)]] if None in values else [])


def _one_of(known: set[Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if value in known:
            return value
        raise Mismatch(f"Invalid enum value {value!r}")

    return convert
