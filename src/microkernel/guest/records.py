"""Struct: classes whose fields are their annotations, in the order in which they are sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from operator import attrgetter
from typing import Any, dataclass_transform

from microkernel.guest.values import NODEFAULT

# A field's name, and the function that returns its default; None if it has none.
Field = tuple[str, Callable[[], Any] | None]


def _annotated(namespace: dict[str, Any]) -> list[str]:
    """Return the annotated names of a class body, in their order; Python 3.14 stores them as a function."""
    annotations = namespace.get("__annotations__")
    if annotations is None and sys.version_info >= (3, 14):
        annotationlib = import_module("annotationlib")
        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        if annotate is not None:
            annotations = annotationlib.call_annotate_function(annotate, annotationlib.Format.FORWARDREF)
    return [name for name, hint in (annotations or {}).items() if "ClassVar" not in str(hint)]


@dataclass_transform(field_specifiers=())
class StructMeta(type):
    """Creates slots for the annotated names, and ``__init__`` from them and their defaults."""

    __struct_fields__: tuple[str, ...]
    __makers__: tuple[Callable[[], Any] | None, ...]
    __values__: Callable[[Any], tuple[Any, ...]]
    __array_like__: bool
    __closed__: bool
    __frozen__: bool
    __tag__: int | None
    __kw_only__: frozenset[str]

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        kw_only: bool = False,
        eq: bool = True,
        weakref: bool = False,
        **marks: Any,
    ) -> StructMeta:
        own = _annotated(namespace)
        defaults = {field: _maker(namespace.pop(field)) for field in own if field in namespace}
        parents = [base for base in bases if isinstance(base, StructMeta)]
        before = _fields_of(parents)
        by_keyword = frozenset[str]().union(*(parent.__kw_only__ for parent in parents), own if kw_only else ())
        fields = before | {field: defaults.get(field) for field in own}
        fields = dict(sorted(fields.items(), key=lambda field: field[0] in by_keyword))
        namespace["__slots__"] = (*(field for field in own if field not in before), *["__weakref__"] * weakref)
        if not eq:
            namespace |= {"__eq__": object.__eq__, "__hash__": object.__hash__}
        if marks.get("frozen"):
            namespace["__setattr__"] = _frozen
        cls = super().__new__(mcs, name, bases, namespace | _marks(parents, marks))
        cls.__struct_fields__, cls.__makers__, cls.__kw_only__ = tuple(fields), tuple(fields.values()), by_keyword
        cls.__values__ = staticmethod(_getter(cls.__struct_fields__))
        setattr(cls, "__match_args__", cls.__struct_fields__)  # noqa: B010 - mypy considers it final
        setattr(cls, "__init__", _initialiser(cls))  # noqa: B010 - mypy considers it the metaclass's own
        return cls


_MARKS = {
    "array_like": "__array_like__", "forbid_unknown_fields": "__closed__", "tag": "__tag__", "frozen": "__frozen__",
}  # fmt: skip


def _marks(parents: list[StructMeta], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a class from its keywords, else from its parents. Raises KeyError for an unsupported
    one."""
    known = {_MARKS[keyword]: value for keyword, value in given.items()}
    return known if parents else dict.fromkeys(_MARKS.values(), False) | {"__tag__": None}


def _fields_of(parents: list[StructMeta]) -> dict[str, Callable[[], Any] | None]:
    found: dict[str, Callable[[], Any] | None] = {}
    for base in reversed(parents):
        found |= zip(base.__struct_fields__, base.__makers__, strict=True)
    return found


def _frozen(self: Any, _name: str, _value: Any) -> None:
    raise AttributeError(f"immutable type: '{type(self).__name__}'")


def _maker(default: Any) -> Callable[[], Any]:
    """Return a function that returns the default: a new object each time if it is mutable."""
    if isinstance(default, list | dict | set | bytearray):
        return default.copy if default else type(default)
    return default.make if isinstance(default, Unchanged | Factory) else Unchanged(default).make


class Unchanged:
    """A default that is returned unchanged, even if it is mutable."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def make(self) -> Any:
        return self.value


class Factory:
    """Factory that creates a new default value for each instance."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], Any]) -> Any:
    """Declare a field whose default is the result of this function, called each time."""
    return Factory(default_factory)


class SignatureDefault(Unchanged):
    """A default of a signature, not of a field's declaration; it is not part of the schema."""


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda value: (getattr(value, names[0]),)) if names else lambda _: ()


def _initialiser(cls: StructMeta) -> Callable[..., None]:
    """Return ``__init__`` as it would be written by hand."""
    names, known = cls.__struct_fields__, dict[str, Any](__absent=NODEFAULT)
    parameters, body = ["__self"], ["pass"]
    for name, maker in zip(names, cls.__makers__, strict=True):
        same = getattr(maker, "__self__", None)
        known[f"__make_{name}"], known[f"__set_{name}"] = maker, getattr(cls, name).__set__
        if name in cls.__kw_only__ and "*" not in parameters:
            parameters.append("*")
        value = name
        if isinstance(same, Unchanged):
            known[f"__same_{name}"] = same.value
            parameters.append(f"{name}=__same_{name}")
        elif maker is not None:
            parameters.append(f"{name}=__absent")
            value = f"__make_{name}() if {name} is __absent else {name}"
        else:
            parameters.append(name)
        body.append(f"__set_{name}(__self, {value})" if cls.__frozen__ else f"__self.{name} = {value}")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body), known)
    made: Callable[..., None] = known["__init__"]
    return made


class Struct(metaclass=StructMeta):
    """Base class of records that are sent."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return type(self).__values__(self) == type(self).__values__(other)

    def __hash__(self) -> int:
        if not type(self).__frozen__:
            raise TypeError(f"unhashable type: '{type(self).__name__}'")
        return hash((type(self), type(self).__values__(self)))

    def __repr__(self) -> str:
        pairs = zip(type(self).__struct_fields__, type(self).__values__(self), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


def make_struct(name: str, fields: Iterable[tuple[str, Any, Any]], **keywords: Any) -> type[Struct]:
    """Create a Struct from (name, type, default) fields; the default is ``NODEFAULT`` for a required field."""
    listed = list(fields)
    namespace: dict[str, Any] = {
        field: SignatureDefault(default) for field, _, default in listed if default is not NODEFAULT
    }
    namespace["__annotations__"] = {field: hint for field, hint, _ in listed}
    made: Any = StructMeta(name, (Struct,), namespace, **keywords)
    return made  # type: ignore[no-any-return]
