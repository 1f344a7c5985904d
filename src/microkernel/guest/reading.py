"""Bytes to values of a type where something in it is Raw: it is left where it lies.

All other types are unpacked first and converted then. Raw is looked for in Structs that travel as lists, in lists of
them and in unions of them: that is where messages have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microkernel.guest import hints, scalars
from microkernel.guest.containers import check_size, required_of, same, wrong_tag
from microkernel.guest.conversion import decoded_as
from microkernel.guest.records import StructMeta
from microkernel.guest.unpacking import Reader, array_size, read_value, skip
from microkernel.guest.values import Mismatch, Raw


def reader_of(hint: Any) -> Reader | None:
    """The reader of a type that has something Raw in it; None for any other."""
    return _reader(hint) if _has_raw(hint, set()) else None


def _has_raw(hint: Any, seen: set[Any]) -> bool:
    for part in hints.members(hint):
        if part.bare is Raw:
            return True
        if part.origin is list and part.args:
            inner = [part.args[0]]
        elif _is_struct(part.origin) and part.origin not in seen:
            seen.add(part.origin)
            inner = [field.hint for field in hints.fields(part.bare, part.origin)]
        else:
            continue
        if any(_has_raw(each, seen) for each in inner):
            return True
    return False


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, StructMeta) and kind.__array_like__


def _reader(hint: Any) -> Reader:
    parts = list(hints.members(hint))
    if parts[0].bare is Raw:
        return _raw
    structs = [part.origin for part in parts if _is_struct(part.origin)]
    if structs and _has_raw(hint, set()):
        return _either(_union(structs) if len(structs) > 1 else _struct(structs[0]), hint)
    if parts[0].origin is list and _has_raw(hint, set()):
        return _either(_list(_reader((parts[0].args or (Any,))[0])), hint)
    return _converted(hint)


def _raw(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    end = skip(data, at)
    return Raw.piece(data, at, end), end


def _converted(hint: Any) -> Reader:
    convert = decoded_as(hint)
    if convert is same:
        return read_value

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        value, at = read_value(data, at, depth)
        return convert(value), at

    return read


def _either(array: Reader, hint: Any) -> Reader:
    """An array by its own reader; what is none by the type as a whole, which takes or refuses it."""
    other = _converted(hint)

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        return (array if array_size(data, at)[0] >= 0 else other)(data, at, depth)

    return read


def _list(item: Reader) -> Reader:
    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        size, at = array_size(data, at)
        depth = _deeper(depth)
        items: list[Any] = []
        try:
            for _ in range(size):
                value, at = item(data, at, depth)
                items.append(value)
        except Mismatch as mismatch:
            raise mismatch.at(f"[{len(items)}]") from None
        return items, at

    return read


def _deeper(depth: int) -> int:
    if not depth:
        raise RecursionError("nested too deep")
    return depth - 1


def _fields(kind: StructMeta) -> list[Reader]:
    return [_reader(field.hint) for field in hints.fields(kind, kind)]


def _struct(kind: StructMeta) -> Reader:
    return _one(kind, _fields(kind), required_of(kind))


def _one(kind: StructMeta, fields: Sequence[Reader], least: int) -> Reader:
    tag, known = kind.__tag__, len(fields)

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        size, at = array_size(data, at)
        check_size(kind, least, size)
        depth = _deeper(depth)
        offset = 0
        if tag is not None:
            at, offset, size = _past_tag(data, at, tag), 1, size - 1
        values: list[Any] = []
        try:
            for field in fields if size >= known else fields[:size]:
                value, at = field(data, at, depth)
                values.append(value)
        except Mismatch as mismatch:
            raise mismatch.at(f"[{len(values) + offset}]") from None
        for _ in range(size - known):
            at = skip(data, at)
        return kind(*values), at

    return read


def _past_tag(data: bytes, at: int, tag: int) -> int:
    value, at = read_value(data, at, 1)
    if type(value) is not int or value != tag:
        raise wrong_tag(value, scalars.name_of_code).at("[0]")
    return at


def _union(kinds: Sequence[StructMeta]) -> Reader:
    by_tag = {kind.__tag__: _struct(kind) for kind in kinds}

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        size, start = array_size(data, at)
        if not size:
            raise Mismatch("Expected `array` of at least length 1, got 0")
        tag = read_value(data, start, depth)[0]
        if type(tag) is not int or tag not in by_tag:
            raise wrong_tag(tag, scalars.name_of_code).at("[0]")
        return by_tag[tag](data, at, depth)

    return read
