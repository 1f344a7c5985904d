"""Encode values to bytes and decode them. The only module that uses msgspec's encoder and decoder.

Payloads are values: None, bool, 64-bit int, float, str, bytes, list, dict; also datetime, Decimal, UUID, Enum, tuple,
set, dataclasses and msgspec Structs, which arrive as plain MessagePack values unless the receiver declares a type.

Data too large to be copied into these bytes is *attached*: the bytes contain only its index among the attachments that
are sent with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from microkernel.errors import InvalidArguments, NotPlainData, PayloadTooLarge, valid_text
from microkernel.wire.command_text import TEXT, CommandText, from_bytes
from microkernel.wire.plain import convert as _adapt
from microkernel.wire.plain import cure as _cure
from microkernel.wire.plain import plain as _simplify

# Maximum length of an encoded payload, in bytes.
MAX_PAYLOAD = 16 * 1024 * 1024
# Maximum nesting of lists and dicts in a payload.
MAX_DEPTH = 128
# Code of the MessagePack extension that stands for an attachment: its index, one byte.
ATTACHED = 1
MAX_ATTACHED = 256


class Attached(Protocol):
    """Data that is sent beside a payload."""

    data: bytes


T = TypeVar("T", bound=Attached)
Raw = msgspec.Raw
Struct = msgspec.Struct
Meta = msgspec.Meta
field = msgspec.field
UNSET = msgspec.UNSET
NODEFAULT = msgspec.NODEFAULT


def _refuse(value: Any) -> Any:
    if isinstance(value, CommandText):
        return msgspec.msgpack.Ext(TEXT, value.encode())
    return _simplify(value)


def _take(code: int, data: memoryview) -> Any:
    """Decode an attachment. A CommandText becomes its own value, because the type hint asks for nothing more
    specific."""
    return from_bytes(data).value if code == TEXT else msgspec.msgpack.Ext(code, bytes(data))


def _keep(code: int, data: memoryview) -> Any:
    return from_bytes(data) if code == TEXT else msgspec.msgpack.Ext(code, bytes(data))


_NATIVE = (bytes, bytearray, memoryview, datetime)
_encoder = msgspec.msgpack.Encoder(enc_hook=_refuse)
_plain = msgspec.msgpack.Decoder(ext_hook=_take)
_keeping = msgspec.msgpack.Decoder(ext_hook=_keep)
# Described kind of a text with a lone surrogate, which has no UTF-8.
NOT_UNICODE = "text that is not valid Unicode"
# Returns the attachment for a value; None for a value that is not attached.
Attach = Callable[[Any], T | None]
_ENCODE_FAILURES = (TypeError, ValueError, OverflowError, RecursionError, BufferError, msgspec.MsgspecError)
_DECODE_FAILURES = (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError, MemoryError)


def encode(value: Any) -> bytes:
    """Encode a value.

    Raises NotPlainData, naming the path of an object that is not a value, and PayloadTooLarge over 16 MiB.
    """
    try:
        data = _encoder.encode(value)
    except _ENCODE_FAILURES as failure:
        raise _no_value(value, failure, _encoder) from None
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=len(data), limit=MAX_PAYLOAD)
    return data


def encode_with(value: Any, attach: Attach[T], already: tuple[T, ...] = ()) -> tuple[bytes, tuple[T, ...]]:
    """Encode a value. Return the bytes, and ``already`` followed by the attachments of the value. Raises as ``encode``
    does."""
    try:
        data = _encoder.encode(value)
    except _ENCODE_FAILURES:
        return _encode_attaching(value, attach, already)
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=len(data), limit=MAX_PAYLOAD)
    return data, already


def _encode_attaching(value: Any, attach: Attach[T], already: tuple[T, ...]) -> tuple[bytes, tuple[T, ...]]:
    attached = [*already]

    def enc_hook(inner: Any) -> Any:
        found = attach(inner)
        if found is None:
            return _refuse(inner)
        attached.append(found)
        return msgspec.msgpack.Ext(ATTACHED, bytes([len(attached) - 1]))  # ValueError for one too many

    try:
        data = msgspec.msgpack.Encoder(enc_hook=enc_hook).encode(value)
    except _ENCODE_FAILURES as failure:
        attached.clear()
        raise _no_value(value, failure, msgspec.msgpack.Encoder(enc_hook=enc_hook)) from None
    check_size(len(data), attached)
    return data, tuple(attached)


def check_size(size: int, attached: Iterable[Attached]) -> None:
    """Raise PayloadTooLarge if ``size`` bytes with their attachments are over the limit. Attached bytes count; shared
    memory does not."""
    size += sum(len(each.data) for each in attached)
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=size, limit=MAX_PAYLOAD)


def _no_value(value: Any, failure: BaseException, encoder: msgspec.msgpack.Encoder) -> NotPlainData:
    path, kind, offender = _find_offender(value, encoder)
    reason = valid_text(str(failure))
    return NotPlainData("MK0602", path=valid_text(path), kind=kind, cure=_cure(offender), reason=reason)


def decode(data: bytes | memoryview | msgspec.Raw, type: Any = Any, attached: Sequence[Any] = ()) -> Any:
    """Decode bytes to a value, checked and converted to ``type``. Raises InvalidArguments with the path."""
    try:
        if attached:
            return decoder_for(type, attached)(data)
        return (_plain if type is Any else _decoder(type)).decode(data)
    except _DECODE_FAILURES as failure:
        raise invalid(failure) from None


def decode_with_texts(data: bytes | memoryview | msgspec.Raw, attached: Sequence[Any] = ()) -> Any:
    """Decode bytes, and keep each CommandText in them. Raises InvalidArguments."""
    try:
        return (_attached_to(attached, _keep) if attached else _keeping).decode(data)
    except _DECODE_FAILURES as failure:
        raise invalid(failure) from None


def convert(value: Any, type: Any) -> Any:
    """Check a decoded value and convert it to ``type``. Raises InvalidArguments with the path."""
    if type is Any:
        return value
    try:
        return msgspec.convert(value, type, builtin_types=_NATIVE, dec_hook=_adapt)
    except _DECODE_FAILURES as failure:
        raise invalid(failure) from None


def encode_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], attach: Attach[T]
) -> tuple[msgspec.Raw, msgspec.Raw, tuple[T, ...]]:
    """Encode the arguments of a call, which are one payload. Return args, kwargs and attachments. Raises as ``encode``
    does."""
    first, attached = encode_with(args, attach) if args else (b"\x90", ())
    named, attached = encode_with(kwargs, attach, attached) if kwargs else (b"\x80", attached)
    if attached or len(first) + len(named) > MAX_PAYLOAD:
        check_size(len(first) + len(named), attached)
    return msgspec.Raw(first), msgspec.Raw(named), attached


def plain_text(text: str, longest: int = 16_000) -> str:
    """Return a text that can be sent: lone surrogates are escaped, and it is cut to ``longest`` characters."""
    short = text if len(text) <= longest else text[:longest] + " …"
    return valid_text(short)


def invalid(failure: BaseException) -> InvalidArguments:
    """Return the InvalidArguments for a failed decode, with its reason and path."""
    return InvalidArguments("MK0605", reason=str(failure) or type(failure).__name__)


def decoder_for(type: Any, attached: Sequence[Any] = ()) -> Callable[[Any], Any]:
    """Return the bare C decoder of a type, for hot paths. Pass its failures to ``invalid``."""
    if not attached:
        return msgspec.msgpack.Decoder(type, dec_hook=_adapt, ext_hook=_take).decode
    return _attached_to(attached, _take, type).decode


def _attached_to(
    attached: Sequence[Any], otherwise: Callable[[int, memoryview], Any], type: Any = Any
) -> msgspec.msgpack.Decoder[Any]:
    def take(code: int, data: memoryview) -> Any:
        if code != ATTACHED:
            return otherwise(code, data)
        if len(data) != 1 or data[0] >= len(attached):
            raise ValueError("it refers to what is not attached")
        return attached[data[0]]

    return msgspec.msgpack.Decoder(type, dec_hook=_adapt, ext_hook=take)


# Attributes of classes whose fields are decoded one by one.
MARKS_OF_RECORDS = ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__")
KNOWN_TYPES = frozenset({
    bool, int, float, str, bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal, UUID, list, dict,
    tuple, set, frozenset, msgspec.Raw, msgspec.msgpack.Ext, type(None), type(UNSET),
})  # fmt: skip
DECODE_FAILURES = _DECODE_FAILURES
# The bare C encoder, for data that is known to be plain.
encode_message: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


def record_type(
    name: str, fields: Iterable[tuple[str, Any, Any]], *, as_array: bool = False, closed: bool = False
) -> type[msgspec.Struct]:
    """Create a type that decodes a dict (or, with ``as_array``, a list) into named and typed fields.

    ``fields`` are (name, type, default) tuples; the default is ``NODEFAULT`` for a required field. Other keys are
    skipped, or refused if ``closed``.
    """
    return msgspec.defstruct(
        name,
        [(n, t) if d is NODEFAULT else (n, t, msgspec.field(default_factory=partial(_same, d))) for n, t, d in fields],
        array_like=as_array,
        forbid_unknown_fields=closed,
        kw_only=not as_array,
    )


def _same(value: Any) -> Any:
    return value


# Returns the fields of a record, in their order.
values_of: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple


def schema(type: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; an empty dict if it has none."""
    try:
        return msgspec.json.schema(type, schema_hook=_schema_of)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return {}


def _schema_of(kind: Any) -> dict[str, Any]:
    if hasattr(kind, "__from_bytes__"):
        return {"type": "string", "contentEncoding": "base64"}
    if hasattr(kind, "model_validate"):
        return {"type": "object", "title": kind.__name__}
    raise NotImplementedError


@lru_cache(maxsize=256)
def _decoder(type: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type, dec_hook=_adapt, ext_hook=_take)


def forget_types() -> None:
    """Clear msgspec's cache of types, which would keep the types of unloaded plugins alive."""
    _decoder.cache_clear()


def _find_offender(value: Any, encoder: msgspec.msgpack.Encoder) -> tuple[str, str, Any]:
    """Return the path of the first object in ``value`` that cannot be encoded, its type, and the object. Called only
    after encoding failed."""
    path = ""
    for _ in range(MAX_DEPTH):
        inner = next((step for step in _children(value) if not _encodes(step[1], encoder)), None)
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


def _encodes(value: Any, encoder: msgspec.msgpack.Encoder) -> bool:
    try:
        encoder.encode(value)
    except _ENCODE_FAILURES:
        return False
    return True


def _kind(value: Any) -> str:
    if type(value) is int:
        return f"int {str(value)[:24]}, over 64 bits"
    return NOT_UNICODE if isinstance(value, str) else type(value).__name__
