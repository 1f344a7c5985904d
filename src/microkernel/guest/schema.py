"""Generate JSON schemas of types, as msgspec does."""

from __future__ import annotations

import inspect
import re
import textwrap
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import EnumMeta
from itertools import count
from typing import Any, Literal
from uuid import UUID

from microkernel.guest import datetimes, type_hints
from microkernel.guest.conversion import converted_to
from microkernel.guest.packing import pack
from microkernel.guest.records import StructMeta
from microkernel.guest.type_hints import Field, Hint
from microkernel.guest.unpacking import unpack
from microkernel.guest.values import NODEFAULT, Raw

Schema = dict[str, Any]

_BASE64 = {"type": "string", "contentEncoding": "base64"}
_SIMPLE: dict[Any, Schema] = {
    Any: {}, Raw: {}, None: {"type": "null"}, type(None): {"type": "null"}, bool: {"type": "boolean"},
    int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"}, bytes: _BASE64, bytearray: _BASE64,
    memoryview: _BASE64, datetime: {"type": "string"}, time: {"type": "string"},
    date: {"type": "string", "format": "date"}, timedelta: {"type": "string", "format": "duration"},
    UUID: {"type": "string", "format": "uuid"}, Decimal: {"type": "string", "format": "decimal"},
}  # fmt: skip


def schema(hint: Any) -> Schema:
    """Return the schema of a type, with those of its classes under ``$defs``. Raises TypeError if it has none."""
    converted_to(hint)  # raises if it is not a type
    named: dict[Any, Hint] = {}
    _collect(hint, named)
    names = _names(named)
    made = _schema(hint, names)
    if named:
        made["$defs"] = {names[bare]: _class_schema(part, names) for bare, part in named.items()}
    return made


def _collect(hint: Any, named: dict[Any, Hint]) -> None:
    for part in type_hints.members(hint):
        if isinstance(part.bare, EnumMeta):
            named[part.bare] = part
        elif type_hints.is_class_of_fields(part.origin):
            if part.bare not in named:
                named[part.bare] = part
                for field in _fields(part):
                    _collect(field.hint, named)
        elif part.origin is not Literal and isinstance(part.origin, type):
            for inner in part.args or ():
                if inner is not ... and not isinstance(inner, list):
                    _collect(inner, named)


def _fields(part: Hint) -> list[Field]:
    found = type_hints.fields(part.bare, part.origin)
    return sorted(found) if type_hints.is_typed_dict(part.origin) else found


def _names(named: dict[Any, Hint]) -> dict[Any, str]:
    """Return the name of each class: with its module if two names are equal, and with a number if that is equal too."""
    plain = {bare: _normal(_class_name(bare)) for bare in named}
    alike = Counter(plain.values())
    names_by_type = {bare: _full_name(bare) if alike[name] > 1 else name for bare, name in plain.items()}
    names: dict[Any, str] = {}
    for bare, name in names_by_type.items():
        names[bare] = _numbered(name, {*names_by_type.values(), *names.values()}) if name in names.values() else name
    return names


def _full_name(bare: Any) -> str:
    return _normal(f"{bare.__module__}.{bare.__qualname__}")


def _numbered(name: str, taken: Collection[str]) -> str:
    return next(each for each in (f"{name}_{n}" for n in count(2)) if each not in taken)


def _normal(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", name)


def _class_name(bare: Any) -> str:
    if hasattr(bare, "__origin__"):
        inner = (arg.__name__ if isinstance(arg, type) else repr(arg) for arg in bare.__args__)
        return f"{bare.__origin__.__name__}[{', '.join(inner)}]"
    return str(bare.__name__)


def _schema(hint: Any, names: dict[Any, str]) -> Schema:
    parts = sorted(type_hints.members(hint), key=_place_in_union)
    if len(parts) > 1:
        return {"anyOf": [_part_schema(part, names) for part in parts]}
    return _part_schema(parts[0], names)


def _place_in_union(part: Hint) -> int:
    """Return the sort key of a union's member: as written, except that a Struct is late and None is last."""
    if part.bare in (None, type(None)):
        return 2
    return int(isinstance(part.origin, StructMeta) and not part.origin.__array_like__)


def _part_schema(part: Hint, names: dict[Any, str]) -> Schema:
    if _is_hashable(part.bare) and part.bare in names:
        return {"$ref": f"#/$defs/{names[part.bare]}"}
    if hasattr(part.bare, "__from_bytes__"):
        return dict(_BASE64)
    if hasattr(part.bare, "model_validate"):
        return {"type": "object", "title": part.bare.__name__}
    if part.bare in _SIMPLE:
        return dict(_SIMPLE[part.bare])
    if part.origin is Literal:
        return {"enum": sorted(part.args or (), key=lambda value: (type(value).__name__, value))}
    if part.origin is dict:
        return _dict(part, names)
    if part.origin in (list, set, frozenset, tuple):
        return _array(part, names)
    raise TypeError(f"type {part.bare!r} is not supported")


def _is_hashable(bare: Any) -> bool:
    return type(bare).__hash__ is not None


def _dict(part: Hint, names: dict[Any, str]) -> Schema:
    made: Schema = {"type": "object"}
    key, item = part.args or (Any, Any)
    if all(map(_is_text, type_hints.members(key))):
        inner = _schema(key, names)
        inner.pop("type", None)  # a key is a text in any case
        made |= {"propertyNames": inner} if inner else {}
    inner = _schema(item, names)
    return made | ({"additionalProperties": inner} if inner else {})


def _is_text(part: Hint) -> bool:
    """Return whether all values of a union's member are texts."""
    if isinstance(part.bare, EnumMeta):
        return all(isinstance(member.value, str) for member in _members(part.bare))
    if part.origin is Literal:
        return all(isinstance(value, str) for value in type_hints.literals(part.args or (), part.bare))
    return part.bare is str


def _array(part: Hint, names: dict[Any, str]) -> Schema:
    made: Schema = {"type": "array"}
    if part.origin is tuple and part.args is not None and not (len(part.args) == 2 and part.args[1] is ...):
        made |= {"minItems": len(part.args), "maxItems": len(part.args)}
        if part.args:
            made |= {"prefixItems": [_schema(arg, names) for arg in part.args], "items": False}
        return made
    if item := _schema((part.args or (Any,))[0], names):
        made["items"] = item
    return made | ({"uniqueItems": True} if part.origin in (set, frozenset) else {})


# Classes


def _class_schema(part: Hint, names: dict[Any, str]) -> Schema:
    made: Schema = {"title": _class_name(part.bare)}
    if doc := _doc(part.origin):
        made["description"] = doc
    if isinstance(part.bare, EnumMeta):
        return made | {"enum": sorted(member.value for member in _members(part.bare))}
    fields = [(field, _field_schema(field, names)) for field in _fields(part)]
    if getattr(part.origin, "__array_like__", False) or type_hints.is_named_tuple(part.origin):
        return made | _as_array(part.origin, fields)
    made |= {"type": "object", "properties": {field.name: inner for field, inner in fields}}
    made["required"] = [field.name for field, _ in fields if not field.optional]
    return made | ({"additionalProperties": False} if getattr(part.origin, "__closed__", False) else {})


def _members(kind: EnumMeta) -> list[Any]:
    """Return each member once, regardless of aliases; for a Flag, also none and combinations."""
    members: Collection[Any] = kind.__members__.values()
    return list({id(member): member for member in members}.values())


def _as_array(kind: Any, fields: list[tuple[Field, Schema]]) -> Schema:
    items = [inner for _, inner in fields]
    if getattr(kind, "__tag__", None) is not None:
        items.insert(0, {"enum": [kind.__tag__]})
    optional = next((n for n, (field, _) in enumerate(reversed(fields)) if not field.optional), len(fields))
    made: Schema = {"type": "array"} | ({"prefixItems": items} if items else {}) | {"minItems": len(items) - optional}
    closed = not isinstance(kind, StructMeta) or kind.__closed__
    return made | ({"maxItems": len(items)} if closed else {})


def _field_schema(field: Field, names: dict[Any, str]) -> Schema:
    made = _schema(field.hint, names)
    if field.default is not NODEFAULT:
        made["default"] = _in_json(unpack(pack(field.default)))
    elif field.make in _EMPTY:
        made["default"] = _EMPTY[field.make]()
    return made


_EMPTY: dict[Any, Callable[[], Any]] = {list: list, dict: dict, set: list, bytearray: str}


def _in_json(value: Any) -> Any:
    """Return a plain value as JSON represents it."""
    if isinstance(value, list):
        return [_in_json(item) for item in value]
    if isinstance(value, dict):
        return {str(_in_json(key)): _in_json(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return datetimes.datetime_text(value) if isinstance(value, datetime) else value


def _doc(kind: Any) -> str:
    doc = inspect.cleandoc(textwrap.dedent(getattr(kind, "__doc__", "") or ""))
    own = doc.startswith(f"{kind.__name__}(") and doc.endswith(")")  # generated by dataclass and NamedTuple
    return "" if own or doc == "An enumeration." else doc
