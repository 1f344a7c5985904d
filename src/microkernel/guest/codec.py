"""Encode and decode values without C: replaces ``microkernel.wire.codec`` in a wasm guest, with the same names.

It produces the same bytes, values and errors as msgspec does there, with these differences:

- Values nested deeper than MAX_DEPTH are refused; msgspec goes as deep as Python's stack.
- Bytes that are truncated or malformed are refused as such, even if a wrong type precedes them.
- Skipped values (of an unknown key, or of the first of two equal keys) must be well-formed too.
- Structs support the features that our messages use: lists, int tags, frozen, keyword-only; no renaming. ``Meta`` is
  ignored.
- Raw in a dict, a tuple or a dataclass is encoded again and is not a slice of the received bytes.
- A union that contains ``Any`` is ``Any``, even if its other members contradict each other.
- Generic classes accept their arguments, but not those of a generic base.
- attrs classes are like any other class: only existing instances are accepted.
- For a key that is unhashable after its conversion, the error names its path, not the byte where it ends.
- Of mappings, only dicts are converted to dicts and record classes; bytes decode to no others.
- A default in a schema is the value as it would be sent: a tuple is a list, and a datetime with a timezone is in UTC.
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
    """Bounds of a field. Only the kernel checks them, because the messages to a guest come from the kernel."""

    def __init__(self, *, max_length: int) -> None:
        self.max_length = max_length


# Maximum length of an encoded payload, in bytes.
MAX_PAYLOAD = 16 * 1024 * 1024
MAX_ATTACHED = 256


class Attached(Protocol):
    """Data that is attached to a payload."""

    data: bytes


T = TypeVar("T", bound=Attached)
# Described kind of a text with a lone surrogate, which has no UTF-8.
NOT_UNICODE = "text that is not valid Unicode"
# Returns the attachment for a value; None for a value that is not attached.
Attach = Callable[[Any], T | None]

_ENCODE_FAILURES = (TypeError, ValueError, OverflowError, RecursionError, BufferError)
DECODE_FAILURES = (RecursionError, ValueError, TypeError, OverflowError, MemoryError, BufferError)


def encode(value: Any) -> bytes:
    """Encode a value.

    Raises NotPlainData, naming the path of an object that is not a value, and PayloadTooLarge over 16 MiB.
    """
    return _encode(value, None)


def encode_with(value: Any, attach: Attach[T], already: tuple[T, ...] = ()) -> tuple[bytes, tuple[T, ...]]:
    """Encode a value. Return the bytes, and ``already`` followed by the attachments of the value. Raises as ``encode``
    does."""
    attached = [*already]

    def enc_hook(inner: Any) -> Ext | None:
        found = attach(inner)
        if found is None:
            return None
        attached.append(found)
        return Ext(ATTACHED, bytes([len(attached) - 1]))

    data = _encode(value, enc_hook)
    if attached:
        check_size(len(data), attached)
    return data, tuple(attached)


def check_size(size: int, attached: Iterable[Attached]) -> None:
    """Raise PayloadTooLarge if ``size`` bytes with their attachments are over the limit. Attached bytes count; shared
    memory does not."""
    size += sum(len(each.data) for each in attached)
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=size, limit=MAX_PAYLOAD)


def _encode(value: Any, enc_hook: packing.EncodeHook | None) -> bytes:
    try:
        data = packing.pack(value, enc_hook)
    except _ENCODE_FAILURES as failure:
        path, kind, offender = _find_offender(value, enc_hook)
        reason = valid_text(str(failure))
        raise NotPlainData("MK0602", path=valid_text(path), kind=kind, cure=_cure(offender), reason=reason) from None
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=len(data), limit=MAX_PAYLOAD)
    return data


def decode(data: bytes | memoryview | Raw, type: Any = Any, attached: Sequence[Any] = ()) -> Any:
    """Decode bytes to a value, checked and converted to ``type``. Raises InvalidArguments with the path."""
    try:
        if attached:
            return decoder_for(type, attached)(data)
        return unpack(data) if type is Any else decoder_for(type)(data)
    except DECODE_FAILURES as failure:
        raise invalid(failure) from None


def decode_with_texts(data: bytes | memoryview | Raw, attached: Sequence[Any] = ()) -> Any:
    """Decode bytes, and keep each CommandText in them. Raises InvalidArguments."""
    try:
        return unpack_with_texts(data, attached)
    except DECODE_FAILURES as failure:
        raise invalid(failure) from None


def convert(value: Any, type: Any) -> Any:
    """Check a decoded value and convert it to ``type``. Raises InvalidArguments with the path."""
    if type is Any:
        return value
    try:
        return conversion.converted_to(type)(value)
    except DECODE_FAILURES as failure:
        raise invalid(failure) from None


def encode_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], attach: Attach[T]
) -> tuple[Raw, Raw, tuple[T, ...]]:
    """Encode the arguments of a call, which are one payload. Return args, kwargs and attachments. Raises as ``encode``
    does."""
    first, attached = encode_with(args, attach) if args else (b"\x90", ())
    named, attached = encode_with(kwargs, attach, attached) if kwargs else (b"\x80", attached)
    check_size(len(first) + len(named), attached)
    return Raw(first), Raw(named), attached


def plain_text(text: str, longest: int = 16_000) -> str:
    """Return a text that can be sent: lone surrogates are escaped, and it is cut to ``longest`` characters."""
    short = text if len(text) <= longest else text[:longest] + " …"
    return valid_text(short)


def invalid(failure: BaseException) -> InvalidArguments:
    """Return the InvalidArguments for a failed decode, with its reason and path."""
    return InvalidArguments("MK0605", reason=str(failure) or type(failure).__name__)


def decoder_for(type: Any, attached: Sequence[Any] = ()) -> Callable[[Any], Any]:
    """Return the bare decoder of a type, for hot paths. Pass its failures to ``invalid``."""
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


# Attributes of classes whose fields are decoded one by one.
MARKS_OF_RECORDS = ("__struct_fields__", "__dataclass_fields__")
KNOWN_TYPES = frozenset({*scalars.converted, list, dict, tuple, set, frozenset, Raw})
# The bare encoder, for data that is known to be plain.
encode_message: Callable[[Any], bytes] = packing.pack


def record_type(
    name: str, fields: Iterable[tuple[str, Any, Any]], *, as_array: bool = False, closed: bool = False
) -> type[Struct]:
    """Create a type that decodes a dict (or, with ``as_array``, a list) into named and typed fields.

    ``fields`` are (name, type, default) tuples; the default is ``NODEFAULT`` for a required field. Other keys are
    skipped, or refused if ``closed``.
    """
    return records.make_struct(name, fields, array_like=as_array, forbid_unknown_fields=closed, kw_only=not as_array)


def values_of(record: Any) -> tuple[Any, ...]:
    """Return the fields of a record, in their order."""
    values: tuple[Any, ...] = type(record).__values__(record)
    return values


def schema(type: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; an empty dict if it has none."""
    try:
        return schemas.schema(type)
    except (TypeError, ValueError):
        return {}


def forget_types() -> None:
    """Clear the cache of types, which would keep the types of unloaded plugins alive."""
    _decoders.clear()
    conversion.forget_types()
    packing.forget_classes()


def _find_offender(value: Any, enc_hook: packing.EncodeHook | None) -> tuple[str, str, Any]:
    """Return the path of the first object in ``value`` that cannot be encoded, its type, and the object. Called only
    after encoding failed."""
    path = ""
    for _ in range(MAX_DEPTH):
        inner = next((step for step in _children(value) if not _encodes(step[1], enc_hook)), None)
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


def _encodes(value: Any, enc_hook: packing.EncodeHook | None) -> bool:
    try:
        packing.pack(value, enc_hook)
    except _ENCODE_FAILURES:
        return False
    return True


def _kind(value: Any) -> str:
    if type(value) is int:
        return f"int {str(value)[:24]}, over 64 bits"
    return NOT_UNICODE if isinstance(value, str) else type(value).__name__


__all__ = [
    "ATTACHED",
    "DECODE_FAILURES",
    "KNOWN_TYPES",
    "MARKS_OF_RECORDS",
    "MAX_ATTACHED",
    "MAX_DEPTH",
    "MAX_PAYLOAD",
    "NODEFAULT",
    "NOT_UNICODE",
    "UNSET",
    "Attach",
    "Attached",
    "Meta",
    "Raw",
    "Struct",
    "check_size",
    "convert",
    "decode",
    "decode_with_texts",
    "decoder_for",
    "encode",
    "encode_arguments",
    "encode_message",
    "encode_with",
    "field",
    "forget_types",
    "invalid",
    "plain_text",
    "record_type",
    "schema",
    "values_of",
]  # fmt: skip
