"""The fields of record classes: dataclasses, Structs, attrs classes and TypedDicts."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any


def fields_of(kind: Any) -> dict[str, Any] | None:
    """Return the type hints of a record's fields, by their names in a payload; None if the class is not a record.

    A generic record is treated as its origin: its parameters are type variables, which accept any value.
    """
    kind = typing.get_origin(kind) or kind
    names = _names_of(kind)
    if names is None:
        return None
    hints = hints_of(kind)
    return {written: hints.get(name, Any) for written, name in names.items()}


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the resolved type hints of a class; empty if it has none, or if one cannot be resolved."""
    if not hasattr(kind, "__annotations__"):
        return {}
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:
        return {}


def _names_of(kind: Any) -> dict[str, str] | None:
    """Return the name in the class of each field, by its name in a payload."""
    if dataclasses.is_dataclass(kind):
        return {each.name: each.name for each in dataclasses.fields(kind)}
    if (names := getattr(kind, "__struct_fields__", None)) is not None:
        tag = getattr(getattr(kind, "__struct_config__", None), "tag_field", None)
        written = getattr(kind, "__struct_encode_fields__", names)
        return dict(zip(written, names, strict=True)) | ({tag: tag} if tag else {})
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return {each.name: each.name for each in attributes}
    return {name: name for name in hints_of(kind)} if typing.is_typeddict(kind) else None


def bare(hint: Any) -> Any:
    """Return a type hint without ``Annotated``, ``Required`` and the like; for a NewType, its base type."""
    while True:
        if typing.get_origin(hint) in (Annotated, typing.Required, typing.NotRequired, typing.Final):
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def options_of(hint: Any) -> Iterator[Any]:
    """Yield the members of a union; for any other type hint, the hint itself."""
    hint = bare(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from options_of(member)
    else:
        yield hint
