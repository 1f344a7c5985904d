"""Decode bytes to types that contain Raw, which is left encoded.

All other types are unpacked first and then converted. Raw is supported in Structs that are sent as lists, in lists of
them and in unions of them, because messages have it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from microkernel.guest import scalars, type_hints
from microkernel.guest.containers import Converter, check_size, required_of, same, wrong_tag
from microkernel.guest.conversion import decoded_as
from microkernel.guest.records import StructMeta
from microkernel.guest.unpacking import Reader, array_size, read_value, readers, skip
from microkernel.guest.values import Mismatch, Raw

# Reads the items of an array, given the offset of the first, the remaining depth, and their number.
Items = Callable[[bytes, int, int, int], tuple[Any, int]]


def reader_of(hint: Any) -> Reader | None:
    """Return the reader of a type that contains Raw; None for any other type."""
    parts = list(type_hints.members(hint))
    if parts[0].bare is Raw:
        return _raw
    if not _has_raw(hint, set()):
        return None
    structs = [part.origin for part in parts if _is_struct(part.origin)]
    if structs:
        return _either(_union(structs) if len(structs) > 1 else _struct(structs[0]), hint)
    return _either(_list((parts[0].args or (Any,))[0]), hint) if parts[0].origin is list else None


def _has_raw(hint: Any, seen: set[Any]) -> bool:
    for part in type_hints.members(hint):
        if part.bare is Raw:
            return True
        if part.origin is list and part.args:
            inner = [part.args[0]]
        elif _is_struct(part.origin) and part.origin not in seen:
            seen.add(part.origin)
            inner = [field.hint for field in type_hints.fields(part.bare, part.origin)]
        else:
            continue
        if any(_has_raw(each, seen) for each in inner):
            return True
    return False


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, StructMeta) and kind.__array_like__


def _step(hint: Any) -> tuple[Reader | None, Converter]:
    """Return the reader of a value, None for any value, and the converter of the result."""
    reader = reader_of(hint)
    return reader, same if reader else decoded_as(hint)


def _raw(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    end = skip(data, at)
    return Raw.piece(data, at, end), end


def _either(items: Items, hint: Any) -> Reader:
    """Return a reader of arrays by their items; other values are handled by the type as a whole, which accepts or
    refuses them."""
    convert = decoded_as(hint)

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        size, start = array_size(data, at)
        if size < 0:
            value, at = read_value(data, at, depth)
            return convert(value), at
        if not depth:
            raise RecursionError("nested too deep")
        return items(data, start, depth - 1, size)

    return read


def _list(hint: Any) -> Items:
    item, convert = _step(hint)

    def read(data: bytes, at: int, depth: int, size: int) -> tuple[Any, int]:
        items: list[Any] = []
        try:
            for _ in range(size):
                value, at = (item or readers[data[at]])(data, at, depth)
                items.append(convert(value))
        except Mismatch as mismatch:
            raise mismatch.at(f"[{len(items)}]") from None
        return items, at

    return read


def _struct(kind: StructMeta) -> Items:
    tag, least, fields = kind.__tag__, required_of(kind), _fields(kind)
    if tag is None:
        return fields

    def read(data: bytes, at: int, depth: int, size: int) -> tuple[Any, int]:
        check_size(kind, least, size)
        value, at = read_value(data, at, 1)
        if type(value) is not int or value != tag:
            raise wrong_tag(value, scalars.name_of_code).at("[0]")
        return fields(data, at, depth, size)

    return read


def _fields(kind: StructMeta) -> Items:
    """Return a reader of the fields after the tag, which is counted too."""
    fields = [_step(field.hint) for field in type_hints.fields(kind, kind)]
    least, known, tags = required_of(kind), len(fields), int(kind.__tag__ is not None)

    def read(data: bytes, at: int, depth: int, size: int) -> tuple[Any, int]:
        check_size(kind, least, size)
        size -= tags
        values: list[Any] = []
        try:
            for field, convert in fields if size >= known else fields[:size]:
                value, at = (field or readers[data[at]])(data, at, depth)
                values.append(convert(value))
        except Mismatch as mismatch:
            raise mismatch.at(f"[{len(values) + tags}]") from None
        for _ in range(size - known):
            at = skip(data, at)
        return kind(*values), at

    return read


def _union(kinds: Sequence[StructMeta]) -> Items:
    by_tag = {kind.__tag__: _fields(kind) for kind in kinds}

    def read(data: bytes, at: int, depth: int, size: int) -> tuple[Any, int]:
        if not size:
            raise Mismatch("Expected `array` of at least length 1, got 0")
        tag, start = readers[data[at]](data, at, depth)
        if type(tag) is not int or tag not in by_tag:
            raise wrong_tag(tag, scalars.name_of_code).at("[0]")
        return by_tag[tag](data, start, depth, size)

    return read
