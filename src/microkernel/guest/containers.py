"""Converters of lists, dicts and record classes, made of the converters of their items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import length_hint
from typing import Any

from microkernel.guest.records import StructMeta
from microkernel.guest.scalars import c_name
from microkernel.guest.type_hints import Field
from microkernel.guest.values import DecodeError, Mismatch

Converter = Callable[[Any], Any]
# Returns the name of a value for an error message.
Name = Callable[[Any], str]


_NOTHING: Any = object()


def same(value: Any) -> Any:
    """The converter of ``Any``."""
    return value


def array_of(make: Callable[[Any], Any], item: Converter) -> Converter:
    """Return a converter of lists, sets and tuples of any length."""
    if item is same:
        return make

    def convert(value: Any) -> Any:
        left = iter(value)
        try:
            return make(map(item, left))
        except Mismatch as mismatch:
            raise mismatch.at(f"[{len(value) - length_hint(left) - 1}]") from None

    return convert


def hashed(item: Converter) -> Converter:
    """Return a converter of the items of a set."""

    def convert(value: Any) -> Any:
        made = item(value)
        try:
            hash(made)
        except TypeError:
            raise _unhashable(made) from None
        return made

    return convert


def _unhashable(value: Any) -> Mismatch:
    return Mismatch(f"Expected a hashable value, got `{c_name(type(value))}`")


def tuple_of(items: Sequence[Converter]) -> Converter:
    """Return a converter of tuples with a type per position."""

    def convert(value: Any) -> tuple[Any, ...]:
        if len(value) != len(items):
            raise Mismatch(f"Expected `array` of length {len(items)}, got {len(value)}")
        return tuple(each(items, value))

    return convert


def each(items: Sequence[Converter], value: Sequence[Any], offset: int = 0) -> list[Any]:
    """Convert each value with the converter of its position."""
    done: list[Any] = []
    try:
        for item, given in zip(items, value, strict=False):
            done.append(item(given))
    except Mismatch as mismatch:
        raise mismatch.at(f"[{len(done) + offset}]") from None
    return done


def named_tuple_of(kind: Any, items: Sequence[Converter]) -> Converter:
    """Return a converter of a NamedTuple. ``items`` may be filled later."""
    max_length, defaults = len(kind._fields), tuple(kind._field_defaults.values())
    required = max_length - len(defaults)
    span = f"{required} to {max_length}" if defaults else f"{max_length}"

    def convert(value: Any) -> Any:
        if not required <= len(value) <= max_length:
            raise Mismatch(f"Expected `array` of length {span}, got {len(value)}")
        return tuple.__new__(kind, [*each(items, value), *defaults[len(value) - required :]])

    return convert


def dict_of(key: Converter, item: Converter) -> Converter:
    """Return a converter of dicts with one type of keys and one of values."""

    def convert(value: dict[Any, Any]) -> dict[Any, Any]:
        done: dict[Any, Any] = {}
        place = "key"
        try:
            for name, given in value.items():
                name = key(name)
                place = "[...]"
                made = item(given)
                place = "key"
                try:
                    done[name] = made
                except TypeError:
                    raise _unhashable(name) from None
        except Mismatch as mismatch:
            raise mismatch.at(place) from None
        return done

    return dict if key is same and item is same else convert


def object_of(
    make: Callable[[dict[str, Any]], Any], inner: Mapping[str, Converter], required: Sequence[str], closed: bool,
    key_name: Name | None,
) -> Converter:  # fmt: skip
    """Return a converter of a record class. ``inner`` and ``required`` may be filled later, because the class may
    contain itself."""

    def convert(value: dict[Any, Any]) -> Any:
        taken: dict[str, Any] = {}
        strange = key = _NOTHING
        try:
            for key, given in value.items():
                if key in inner:
                    taken[key] = inner[key](given)
                elif closed or type(key) is not str:
                    strange = key
                    break
        except Mismatch as mismatch:
            raise mismatch.at(f".{key}") from None
        if strange is not _NOTHING:
            raise _unknown(strange, key_name)
        for name in required:
            if name not in taken:
                raise Mismatch(f"Object missing required field `{name}`")
        return make(taken)

    return convert


def _unknown(key: Any, key_name: Name | None) -> Mismatch:
    if type(key) is str:
        return Mismatch(f"Object contains unknown field `{key}`")
    return Mismatch(f"Expected `str`, got `{key_name(key)}`" if key_name else "Expected `str`").at("key")


def make_struct(kind: StructMeta) -> Callable[[dict[str, Any]], Any]:
    return lambda taken: kind(**taken)


def make_dataclass(kind: Any, fields: Sequence[Field]) -> Callable[[dict[str, Any]], Any]:
    """Create a dataclass as msgspec does: without ``__init__``, but with ``__post_init__``, whose exceptions become a
    Mismatch."""
    settle = getattr(kind, "__post_init__", None)
    makers = {field.name: field.make for field in fields if field.make is not None}
    put = object.__setattr__

    def make(taken: dict[str, Any]) -> Any:
        made = object.__new__(kind)
        for name, value in taken.items():
            put(made, name, value)
        for name, maker in makers.items():
            if name not in taken:
                put(made, name, maker())
        if settle is not None:
            validated(settle, made)
        return made

    return make


def validated(judge: Callable[[Any], Any], value: Any) -> Any:
    """Return the result of the program's own function for a value; its exceptions become a Mismatch."""
    try:
        return judge(value)
    except DecodeError:
        raise
    except (TypeError, ValueError) as objection:
        raise Mismatch(str(objection)) from objection


def struct_array_of(kind: StructMeta, inner: Sequence[Converter], tag_name: Name) -> Converter:
    """Return a converter of a Struct that is sent as a list, including its tag."""
    tag, least = kind.__tag__, required_of(kind)

    def convert(value: Sequence[Any]) -> Any:
        check_size(kind, least, len(value))
        if tag is None:
            return kind(*each(inner, value))
        if type(value[0]) is not int or value[0] != tag:
            raise wrong_tag(value[0], tag_name).at("[0]")
        return kind(*each(inner, value[1:], 1))

    return convert


def required_of(kind: StructMeta) -> int:
    """Return the number of items that the list of a Struct must have, including its tag."""
    makers = list(kind.__makers__)
    while makers and makers[-1] is not None:
        makers.pop()
    return len(makers) + (kind.__tag__ is not None)


def check_size(kind: StructMeta, least: int, size: int) -> None:
    """Raise Mismatch if a list of ``size`` items cannot be of this Struct."""
    if size < least:
        raise Mismatch(f"Expected `array` of at least length {least}, got {size}")
    max_length, given = len(kind.__makers__), size - (kind.__tag__ is not None)
    if kind.__closed__ and given > max_length:
        raise Mismatch(f"Expected `array` of at most length {max_length}, got {given}")


def wrong_tag(tag: Any, tag_name: Name) -> Mismatch:
    return Mismatch(f"Invalid value {tag!r}" if type(tag) is int else f"Expected `int`, got `{tag_name(tag)}`")


def union_of(by_tag: dict[int, Converter], tag_name: Name) -> Converter:
    """Return a converter of Structs that are sent as lists and distinguished by their tags."""

    def convert(value: Sequence[Any]) -> Any:
        if not value:
            raise Mismatch("Expected `array` of at least length 1, got 0")
        tag = value[0]
        if type(tag) is not int or tag not in by_tag:
            raise wrong_tag(tag, tag_name).at("[0]")
        return by_tag[tag](value)

    return convert
