"""Converters of what is not made of other values, and what msgspec calls things in its refusals."""

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

Maker = Callable[[Any], Any] | None
"""None: the value itself will do."""


class Kind(NamedTuple):
    """One kind of type: its name in a refusal, and what makes one of it from the classes of values that it takes."""

    word: str
    takes: dict[Any, Maker]


STR_LIKE = ("str", "bytes", "datetime", "date", "time", "duration", "uuid", "decimal")
WORDS = ("bool", "int", "float", *STR_LIKE, "ext", "object", "array", "null")
"""In the order in which a union names and tries them."""

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
    """What a value is called in a refusal to convert it."""
    kind = type(value)
    if kind in _NAMES:
        return _NAMES[kind]
    if issubclass(kind, set | frozenset):
        return "set"
    if issubclass(kind, tuple):
        return "array"
    return next((name for base, name in _BASES.items() if issubclass(kind, base) and kind is not bool), c_name(kind))


def name_of_code(value: Any) -> str:
    """What a value that was unpacked is called where only its first byte is looked at."""
    return "ext" if isinstance(value, datetime) else name_of(value)


def name_of_decoded(value: Any) -> str:
    """What a value that was unpacked is called in a refusal."""
    return "None" if value is None else name_of_code(value)


_ON_HEAP, _IMMUTABLE = 1 << 9, 1 << 8
"""Of a class: newer Pythons also put their own on the heap, but let nobody change them."""


def c_name(kind: type) -> str:
    """The name of a class as C sees it: with its module where it is written in C."""
    in_python = kind.__flags__ & (_ON_HEAP | _IMMUTABLE) == _ON_HEAP
    return kind.__name__ if in_python or kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def enum_kind(kind: Any, context: Any, decoding: bool) -> Kind:
    """Of an Enum, all of whose values are ints or all strs."""
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
    except Exception:  # what a program writes there may raise anything; msgspec takes all of it for a no
        found = None
    if found is None:
        raise Mismatch(f"Invalid enum value {value!r}")
    return found


def literal_kinds(values: list[Any], plain: set[Any]) -> list[Kind]:
    """Of the values of all ``Literal`` in a union; those of a type that is in the union as a whole say nothing."""
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
