"""The fields of classes that values are decoded into: dataclasses, Structs, attrs classes and TypedDicts."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any


def fields_of(kind: Any) -> dict[str, Any] | None:
    """The hints of a record's fields, by the names that they have in a payload; None for a class of another kind.

    A generic record is taken as its origin: its parameters are seen as type variables, which fit anything.
    """
    kind = typing.get_origin(kind) or kind
    names = _names_of(kind)
    if names is None:
        return None
    hints = hints_of(kind)
    return {written: hints.get(name, Any) for written, name in names.items()}


def hints_of(kind: Any) -> dict[str, Any]:
    """The resolved hints of a class; empty if it has none, or if they name what does not exist."""
    if not hasattr(kind, "__annotations__"):
        return {}
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:
        return {}


def _names_of(kind: Any) -> dict[str, str] | None:
    """The name in a payload and the name in the class, of each field."""
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
    """A hint without ``Annotated``, ``Required`` and the like around it; a NewType as the type that it stands for."""
    while True:
        if typing.get_origin(hint) in (Annotated, typing.Required, typing.NotRequired, typing.Final):
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def options_of(hint: Any) -> Iterator[Any]:
    """The members of a union; of another hint, the hint itself."""
    hint = bare(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from options_of(member)
    else:
        yield hint
