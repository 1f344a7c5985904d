"""Values to bytes and back without C: what ``microkernel.wire.codec`` is in a wasm guest, name by name.

It gives the same bytes, the same values and the same refusals as msgspec does there, but for this:

- What is nested deeper than MAX_DEPTH is refused; msgspec goes as deep as Python's stack.
- Bytes that are cut short or malformed are refused as such, even where a wrong type comes before that.
- What is skipped (an unknown key, or the first of two that are the same) must be well-formed values all the same.
- Of Structs there is what our messages need: lists, int tags, frozen, keyword-only; no renaming. ``Meta`` says nothing.
- Raw in a dict, a tuple or a dataclass is encoded anew, not a piece of what came in.
- A union with ``Any`` in it is ``Any``, even if what is before that contradicts itself.
- Generic classes take their arguments, but not those of a generic base.
- attrs classes are like any other class: what is none already is refused.
- A key that is no longer hashable once it is of its type is told by its place, not by the byte that it ends at.
- Of mappings only dicts become dicts and classes of fields: bytes give no others.
- A default in a schema is what would arrive: a tuple is a list, and a moment with a timezone is in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from microkernel.errors import InvalidArguments, NotPlainData, PayloadTooLarge, valid_text
from microkernel.guest import conversion, packing, records, scalars
from microkernel.guest import schema as schemas
from microkernel.guest.containers import same
from microkernel.guest.decoders import reader_of
from microkernel.guest.records import Struct, field
from microkernel.guest.unpacking import unpack, unpack_typed, unpack_with, unpack_with_texts
from microkernel.guest.values import ATTACHED, MAX_DEPTH, NODEFAULT, UNSET, Ext, Raw
from microkernel.wire.plain import cure as _cure


class Meta:
    """Bounds of a field, which only the kernel checks: what reaches a guest comes from it."""

    def __init__(self, *, max_length: int) -> None:
        self.max_length = max_length


MAX_PAYLOAD = 16 * 1024 * 1024
"""The longest payload, encoded, in bytes."""
MOST_ATTACHED = 256


class Attached(Protocol):
    """What travels beside a payload."""

    data: bytes


T = TypeVar("T", bound=Attached)
NOT_UNICODE = "text that is not valid Unicode"
"""The kind of a text that holds half a character, a lone surrogate: it has no UTF-8."""
Attach = Callable[[Any], T | None]
"""What travels beside the bytes for a value; None where it is no value for that."""

_ENCODE_FAILURES = (TypeError, ValueError, OverflowError, RecursionError, BufferError)
DECODE_FAILURES = (RecursionError, ValueError, TypeError, OverflowError, MemoryError, BufferError)


def encode(value: Any) -> bytes:
    """The bytes of a value.

    Raises NotPlainData naming the path of what is no value, PayloadTooLarge over 16 MiB.
    """
    return _encode(value, None)


def encode_with(value: Any, attach: Attach[T], already: tuple[T, ...] = ()) -> tuple[bytes, tuple[T, ...]]:
    """The bytes of a value, and what is attached to them, after what is ``already``. Raises as ``encode`` does."""
    attached = [*already]

    def stand_in(inner: Any) -> Ext | None:
        found = attach(inner)
        if found is None:
            return None
        attached.append(found)
        return Ext(ATTACHED, bytes([len(attached) - 1]))

    data = _encode(value, stand_in)
    if attached:
        check_size(len(data), attached)
    return data, tuple(attached)


def check_size(size: int, attached: Iterable[Attached]) -> None:
    """What travels with a payload counts with it, as far as it is bytes. Raises PayloadTooLarge."""
    size += sum(len(each.data) for each in attached)
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=size, limit=MAX_PAYLOAD)


def _encode(value: Any, stand_in: packing.StandIn | None) -> bytes:
    try:
        data = packing.pack(value, stand_in)
    except _ENCODE_FAILURES as failure:
        path, kind, offender = _find_offender(value, stand_in)
        reason = valid_text(str(failure))
        raise NotPlainData("MK0602", path=valid_text(path), kind=kind, cure=_cure(offender), reason=reason) from None
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=len(data), limit=MAX_PAYLOAD)
    return data


def decode(data: bytes | memoryview | Raw, type: Any = Any, attached: Sequence[Any] = ()) -> Any:
    """The value of some bytes, checked and converted to ``type``. Raises InvalidArguments with the path."""
    try:
        if attached:
            return decoder_for(type, attached)(data)
        return unpack(data) if type is Any else decoder_for(type)(data)
    except DECODE_FAILURES as failure:
        raise invalid(failure) from None


def decode_with_texts(data: bytes | memoryview | Raw, attached: Sequence[Any] = ()) -> Any:
    """The value of some bytes, in which each CommandText is one still. Raises InvalidArguments."""
    try:
        return unpack_with_texts(data, attached)
    except DECODE_FAILURES as failure:
        raise invalid(failure) from None


def convert(value: Any, type: Any) -> Any:
    """A decoded value, checked and converted to ``type``. Raises InvalidArguments with the path."""
    if type is Any:
        return value
    try:
        return conversion.converted_to(type)(value)
    except DECODE_FAILURES as failure:
        raise invalid(failure) from None


def encode_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], attach: Attach[T]
) -> tuple[Raw, Raw, tuple[T, ...]]:
    """The bytes of a call's arguments, which are one payload, and what is attached. Raises as ``encode`` does."""
    first, attached = encode_with(args, attach) if args else (b"\x90", ())
    named, attached = encode_with(kwargs, attach, attached) if kwargs else (b"\x80", attached)
    check_size(len(first) + len(named), attached)
    return Raw(first), Raw(named), attached


def plain_text(text: str, longest: int = 16_000) -> str:
    """A text that can travel: Python's may hold half characters, and have any length."""
    short = text if len(text) <= longest else text[:longest] + " …"
    return valid_text(short)


def invalid(failure: BaseException) -> InvalidArguments:
    """What a failed decode is called outside: InvalidArguments with the reason and the path in it."""
    return InvalidArguments("MK0605", reason=str(failure) or type(failure).__name__)


def decoder_for(type: Any, attached: Sequence[Any] = ()) -> Callable[[Any], Any]:
    """The bare decoder of a type, for hot paths; its failures are for ``invalid`` to name."""
    if attached:
        return _decoder(type, attached)
    try:
        return _decoders[type]
    except KeyError:
        made = _decoders[type] = _decoder(type)
        return made
    except TypeError:  # the metadata of an Annotated may be unhashable
        return _decoder(type)


_decoders: dict[Any, Callable[[Any], Any]] = {}


def _decoder(type: Any, attached: Sequence[Any] = ()) -> Callable[[Any], Any]:
    convert = conversion.decoded_as(type)
    if convert is same:
        return partial(unpack_with, attached) if attached else unpack
    read = reader_of(type)
    if read:
        return partial(unpack_typed, read=read, attached=attached)
    return lambda data: convert(unpack_typed(data, None, attached))


MARKS_OF_RECORDS = ("__struct_fields__", "__dataclass_fields__")
"""What classes have whose fields are decoded one by one."""
KNOWN_TYPES = frozenset({*scalars.converted, list, dict, tuple, set, frozenset, Raw})
encode_message: Callable[[Any], bytes] = packing.pack
"""The bare encoder, for what is known to be plain."""


def record_type(
    name: str, fields: Iterable[tuple[str, Any, Any]], *, as_array: bool = False, closed: bool = False
) -> type[Struct]:
    """A type that decodes a dict (or, ``as_array``, a list) into named and typed fields.

    ``fields`` are (name, type, default), default ``NODEFAULT`` where there is none. What is not among them is skipped,
    or refused if ``closed``.
    """
    return records.make_struct(name, fields, array_like=as_array, forbid_unknown_fields=closed, kw_only=not as_array)


def values_of(record: Any) -> tuple[Any, ...]:
    """The fields of a record, in their order."""
    values: tuple[Any, ...] = type(record).__values__(record)
    return values


def schema(type: Any) -> dict[str, Any]:
    """The JSON schema of a type; empty where it has none."""
    try:
        return schemas.schema(type)
    except (TypeError, ValueError):
        return {}


def forget_types() -> None:
    """Types that were decoded to are kept for the next time, also those of a plugin that has gone."""
    _decoders.clear()
    conversion.forget_types()
    packing.forget_classes()


def _find_offender(value: Any, stand_in: packing.StandIn | None) -> tuple[str, str, Any]:
    """Where in ``value`` the first thing is that cannot be encoded, its type, and itself. Only runs when encoding
    failed."""
    path = ""
    for _ in range(MAX_DEPTH):
        inner = next((step for step in _children(value) if not _encodes(step[1], stand_in)), None)
        if inner is None:
            return path.strip() or "the payload", _kind(value), value
        path, value = path + inner[0], inner[1]
    return path[:120] + "…", "nested too deep, or into itself", None


def _children(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        named = [(f".{key}" if isinstance(key, str) else f"[{key!r}]", item) for key, item in value.items()]
        return [*named, *((f" (key {key!r})", key) for key in value)]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    fields = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None) or ()
    return [(f".{name}", getattr(value, name, None)) for name in fields]


def _encodes(value: Any, stand_in: packing.StandIn | None) -> bool:
    try:
        packing.pack(value, stand_in)
    except _ENCODE_FAILURES:
        return False
    return True


def _kind(value: Any) -> str:
    if type(value) is int:
        return f"int {str(value)[:24]}, over 64 bits"
    return NOT_UNICODE if isinstance(value, str) else type(value).__name__


__all__ = [
    "ATTACHED", "DECODE_FAILURES", "KNOWN_TYPES", "MARKS_OF_RECORDS", "MAX_DEPTH", "MAX_PAYLOAD", "MOST_ATTACHED",
    "NODEFAULT", "NOT_UNICODE", "UNSET", "Attach", "Attached", "Meta", "Raw", "Struct", "check_size", "convert",
    "decode", "decode_with_texts", "decoder_for", "encode", "encode_arguments", "encode_message", "encode_with",
    "field", "forget_types", "invalid", "plain_text", "record_type", "schema", "values_of",
]  # fmt: skip
