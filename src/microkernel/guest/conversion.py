"""Compile type hints to converters: functions that convert a plain value to the requested type, or raise Mismatch.

A type hint is compiled once, to a table from the classes of accepted values to functions that convert them. A union is
the merged tables of its members, in msgspec's order: its names and its choices come from the same list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import EnumMeta
from functools import partial
from typing import Any, Literal
from uuid import UUID

from microkernel.guest import containers, scalars, type_hints
from microkernel.guest.containers import Converter, same
from microkernel.guest.packing import pack
from microkernel.guest.records import StructMeta
from microkernel.guest.scalars import Kind
from microkernel.guest.type_hints import Hint
from microkernel.guest.unpacking import hashable
from microkernel.guest.values import Mismatch, Raw
from microkernel.wire.plain import convert as adapt

_STR_LIKE = (
    "Type unions may not contain more than one str-like type (`str`, `Enum`, `Literal[str values]`, `datetime`, "
    "`date`, `time`, `timedelta`, `uuid`, `decimal`, `bytes`, `bytearray`)"
)
_ALONE = {
    "int": "Type unions may not contain more than one int-like type (`int`, `Enum`, `Literal[int values]`)",
    "array": "Type unions may not contain more than one array-like type (`Struct(array_like=True)`, `list`, `set`, "
    "`frozenset`, `tuple`, `NamedTuple`)",
    "object": "Type unions may not contain more than one dict-like type (`Struct`, `dict`, `TypedDict`, `dataclass`)",
} | dict.fromkeys(scalars.STR_LIKE, _STR_LIKE)
_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {list: list, set: set, frozenset: frozenset}
# Classes with subclasses, and the function that converts such a value to the class itself, where msgspec does so.
_BASES: dict[type, Callable[[Any], Any]] = dict.fromkeys((str, list, dict, UUID, set, frozenset, tuple), same) | {
    int: int, bytes: bytes,
}  # fmt: skip


class Compiler:
    """Creates converters, for values that were just unpacked (``decoding``) or that the program made."""

    def __init__(self, decoding: bool) -> None:
        self._decoding = decoding
        self._name = scalars.name_of_decoded if decoding else scalars.name_of
        self._scalars = scalars.decoded if decoding else scalars.converted
        self._made: dict[Any, Converter] = {}
        self._classes: dict[Any, Converter] = {}

    def forget(self) -> None:
        """Clear the cache of compiled types."""
        self._made.clear()
        self._classes.clear()

    def converter(self, hint: Any, in_key: bool = False) -> Converter:
        """Return the converter of a type hint; with ``in_key``, for values that must be hashable. Raises TypeError if
        it is not a type."""
        try:
            return self._made[hint, in_key]
        except KeyError:
            made = self._made[hint, in_key] = self._compile(hint, in_key)
            return made
        except TypeError:  # the metadata of an Annotated may be unhashable
            return self._compile(hint, in_key)

    def _compile(self, hint: Any, in_key: bool) -> Converter:
        parts = list(type_hints.members(hint))
        if any(part.bare is Any for part in parts):
            return hashable if in_key and self._decoding else same
        if any(part.bare is Raw for part in parts):
            return self._raw()
        kinds = self._literals(parts) + self._structs(parts, hint)
        custom = None
        for part in parts:
            if part.origin is Literal or isinstance(part.origin, StructMeta):
                continue
            kind = self._kind(part, in_key, hint)
            if kind is None:
                custom = part
            else:
                kinds.append(kind)
        if custom is None:
            return self._from_kinds(kinds, hint)
        made = self._custom(custom, kinds, hint)
        return (lambda value: made(hashable(value))) if in_key and self._decoding else made

    def _kind(self, part: Hint, in_key: bool, context: Any) -> Kind | None:
        bare, origin = part.bare, part.origin
        if bare is None or (isinstance(bare, type) and bare in self._scalars):
            return self._scalars[type(None) if bare is None else bare]
        if isinstance(bare, EnumMeta):
            return scalars.enum_kind(bare, context, self._decoding)
        if origin in _COLLECTIONS or origin is tuple:
            return self._collection(part, in_key)
        if origin is dict:
            key, item = part.args or (Any, Any)
            return Kind("object", {dict: containers.dict_of(self.converter(key, in_key=True), self.converter(item))})
        if type_hints.is_class_of_fields(origin):
            return self._class_of_fields(part, in_key)
        if not isinstance(origin, type):
            raise TypeError(f"Type '{bare!r}' is not supported")
        return None

    def _collection(self, part: Hint, in_key: bool) -> Kind:
        if part.origin is tuple and part.args is not None and not (len(part.args) == 2 and part.args[1] is ...):
            return self._array(containers.tuple_of([self.converter(item, in_key) for item in part.args]))
        if part.args and part.origin is not tuple and len(part.args) != 1:
            raise TypeError(f"Type '{part.bare!r}' is not supported")
        is_set = part.origin in (set, frozenset)
        item = self.converter((part.args or (Any,))[0], is_set or (in_key and part.origin is tuple))
        made = containers.array_of(_COLLECTIONS.get(part.origin, tuple), containers.hashed(item) if is_set else item)
        return self._array(made, sets=True)

    def _array(self, made: Converter, sets: bool = False, like: type | None = None) -> Kind:
        takes: dict[Any, Converter | None] = {list: made, tuple: made}
        if sets and not self._decoding:
            takes |= {set: _listed(made), frozenset: _listed(made)}
        return Kind("array", takes | self._as_it_is(like))

    def _as_it_is(self, like: type | None) -> dict[Any, Converter | None]:
        return {} if like is None or self._decoding else {like: None}

    # Classes

    def _class_of_fields(self, part: Hint, in_key: bool) -> Kind:
        in_key = in_key and (type_hints.is_named_tuple(part.origin) or isinstance(part.origin, StructMeta))
        made = self._classes.get((part.bare, in_key)) or self._class_converter(part, in_key)
        like = None if type_hints.is_typed_dict(part.origin) else part.origin
        if type_hints.is_named_tuple(part.origin) or getattr(part.origin, "__array_like__", False):
            return self._array(made, like=like)
        takes: dict[Any, Converter | None] = {dict: made}
        return Kind("object", takes | self._as_it_is(like))

    def _class_converter(self, part: Hint, in_key: bool) -> Converter:
        kind, inner, required = part.origin, {}, []  # type: ignore[var-annotated]
        fields = type_hints.fields(part.bare, kind)
        if type_hints.is_named_tuple(kind):
            items: list[Converter] = []
            made = containers.named_tuple_of(kind, items)
        elif isinstance(kind, StructMeta) and kind.__array_like__:
            items = []
            made = containers.struct_array_of(kind, items, self._tag_name)
        else:
            make: Callable[[dict[str, Any]], Any] = dict
            if isinstance(kind, StructMeta):
                make = containers.make_struct(kind)
            elif type_hints.is_dataclass(kind):
                make = containers.make_dataclass(kind, fields)
            name = scalars.name_of_code if self._decoding else None
            made = containers.object_of(make, inner, required, getattr(kind, "__closed__", False), name)
        self._classes[part.bare, in_key] = made
        try:
            converters = [self.converter(field.hint, in_key) for field in fields]
        except BaseException:
            del self._classes[part.bare, in_key]
            raise
        if type_hints.is_named_tuple(kind) or getattr(kind, "__array_like__", False):
            items += converters
        inner.update(zip([field.name for field in fields], converters, strict=True))
        required += [field.name for field in fields if not field.optional]
        return made

    def _tag_name(self, tag: Any) -> str:
        return scalars.name_of_code(tag) if self._decoding else type(tag).__name__

    def _structs(self, parts: list[Hint], context: Any) -> list[Kind]:
        structs = [part for part in parts if isinstance(part.origin, StructMeta)]
        if len(structs) < 2:
            return [self._class_of_fields(part, False) for part in structs]
        tags: dict[Any, Any] = {part.origin.__tag__: self._class_of_fields(part, False).takes[list] for part in structs}
        if None in tags or len(tags) < len(structs) or not all(part.origin.__array_like__ for part in structs):
            raise TypeError(f"Struct types in a union must be lists with a tag of their own - type `{context!r}`")
        return [self._array(containers.union_of(tags, self._tag_name))]

    # Others

    def _literals(self, parts: list[Hint]) -> list[Kind]:
        values = [v for p in parts if p.origin is Literal for v in type_hints.literals(p.args or (), p.bare)]
        plain = {part.bare for part in parts if isinstance(part.bare, type)}
        return scalars.literal_kinds(values, plain)

    def _raw(self) -> Converter:
        def convert(value: Any) -> Any:
            if type(value) is Raw:
                return value
            if self._decoding:
                return Raw(pack(value))
            raise Mismatch(f"Expected `raw`, got `{self._name(value)}`")

        return convert

    def _custom(self, part: Hint, kinds: list[Kind], context: Any) -> Converter:
        requested, or_none = part.origin, bool(kinds)
        if any(kind.word != "null" for kind in kinds):
            raise TypeError(
                "Type unions containing a custom type may not contain any additional types other than `None` - "
                f"type `{context!r}` is not supported"
            )

        def convert(value: Any) -> Any:
            if value is None and or_none:
                return None
            made = containers.validated(partial(adapt, requested), value)
            if isinstance(made, requested):
                return made
            raise Mismatch(f"Expected `{scalars.c_name(requested)}`, got `{scalars.c_name(type(made))}`")

        return convert

    def _from_kinds(self, kinds: list[Kind], context: Any) -> Converter:
        kinds.sort(key=lambda kind: scalars.KIND_ORDER.index(kind.word))
        table: dict[type, Converter | None] = {}
        for kind in kinds:
            rules = [_ALONE[kind.word]] if kind.word in _ALONE else []
            if any(_ALONE.get(other.word) in rules and other is not kind for other in kinds):
                raise TypeError(f"{rules[0]} - type `{context!r}` is not supported")
            for taken, make in kind.takes.items():
                table.setdefault(taken, make)
        expected = " | ".join(dict.fromkeys(kind.word for kind in kinds))

        def refuse(value: Any) -> Any:
            raise Mismatch(f"Expected `{expected}`, got `{self._name(value)}`")

        return _by_table(table, refuse if self._decoding else _by_base(table, refuse))


def _listed(made: Converter) -> Converter:
    return lambda value: made(list(value))


def _by_base(table: Mapping[type, Converter | None], refuse: Converter) -> Converter:
    """Return a converter for classes that are not in the table, but have a base class that is."""

    def convert(value: Any) -> Any:
        for base, own in _BASES.items():
            if isinstance(value, base) and type(value) is not bool:
                if base not in table:
                    break
                make = table[base]
                return own(value) if make is None else make(str.__str__(value) if base is str else own(value))
        return refuse(value)

    return convert


def _by_table(table: Mapping[type, Converter | None], otherwise: Converter) -> Converter:
    if not any(table.values()):
        return lambda value: value if type(value) in table else otherwise(value)

    def convert(value: Any) -> Any:
        make = table.get(type(value), otherwise)
        return value if make is None else make(value)

    return convert


_decoded, _converted = Compiler(decoding=True), Compiler(decoding=False)
# Returns the converter for results of ``unpack``.
decoded_as = _decoded.converter
# Returns the converter for any value.
converted_to = _converted.converter


def forget_types() -> None:
    """Clear the cache of compiled types, which would keep the types of unloaded plugins alive."""
    _decoded.forget()
    _converted.forget()
