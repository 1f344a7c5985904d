"""Values to bytes and back: the only module that knows msgspec's encoder and decoder.

Payloads are values: None, bool, 64-bit int, float, str, bytes, list, dict; also datetime, Decimal, UUID, Enum, tuple,
set, dataclasses and msgspec Structs, which arrive as plain MessagePack values unless the receiver says what they are.

What is too large to be among these bytes is *attached*: the bytes have only its index among what travels with them.
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

MAX_PAYLOAD = 16 * 1024 * 1024
"""The longest payload, encoded, in bytes."""
MAX_DEPTH = 128
"""The deepest nesting of lists and dicts in a payload."""
ATTACHED = 1
"""The extension of MessagePack that stands for what is attached: its index, one byte."""
MOST_ATTACHED = 256


class Attached(Protocol):
    """What travels beside a payload."""

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
    """Where a hint does not ask for more, a CommandText is what it means by itself."""
    return from_bytes(data).value if code == TEXT else msgspec.msgpack.Ext(code, bytes(data))


def _keep(code: int, data: memoryview) -> Any:
    return from_bytes(data) if code == TEXT else msgspec.msgpack.Ext(code, bytes(data))


_NATIVE = (bytes, bytearray, memoryview, datetime)
_encoder = msgspec.msgpack.Encoder(enc_hook=_refuse)
_plain = msgspec.msgpack.Decoder(ext_hook=_take)
_keeping = msgspec.msgpack.Decoder(ext_hook=_keep)
NOT_UNICODE = "text that is not valid Unicode"
"""The kind of a text that holds half a character, a lone surrogate: it has no UTF-8."""
Attach = Callable[[Any], T | None]
"""What travels beside the bytes for a value; None where it is no value for that."""
_ENCODE_FAILURES = (TypeError, ValueError, OverflowError, RecursionError, BufferError, msgspec.MsgspecError)
_DECODE_FAILURES = (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError, MemoryError)


def encode(value: Any) -> bytes:
    """The bytes of a value.

    Raises NotPlainData naming the path of what is no value, PayloadTooLarge over 16 MiB.
    """
    try:
        data = _encoder.encode(value)
    except _ENCODE_FAILURES as failure:
        raise _no_value(value, failure, _encoder) from None
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=len(data), limit=MAX_PAYLOAD)
    return data


def encode_with(value: Any, attach: Attach[T], already: tuple[T, ...] = ()) -> tuple[bytes, tuple[T, ...]]:
    """The bytes of a value, and what is attached to them, after what is ``already``. Raises as ``encode`` does."""
    try:
        data = _encoder.encode(value)
    except _ENCODE_FAILURES:
        return _encode_attaching(value, attach, already)
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=len(data), limit=MAX_PAYLOAD)
    return data, already


def _encode_attaching(value: Any, attach: Attach[T], already: tuple[T, ...]) -> tuple[bytes, tuple[T, ...]]:
    attached = [*already]

    def stand_in(inner: Any) -> Any:
        found = attach(inner)
        if found is None:
            return _refuse(inner)
        attached.append(found)
        return msgspec.msgpack.Ext(ATTACHED, bytes([len(attached) - 1]))  # ValueError for one too many

    try:
        data = msgspec.msgpack.Encoder(enc_hook=stand_in).encode(value)
    except _ENCODE_FAILURES as failure:
        attached.clear()
        raise _no_value(value, failure, msgspec.msgpack.Encoder(enc_hook=stand_in)) from None
    check_size(len(data), attached)
    return data, tuple(attached)


def check_size(size: int, attached: Iterable[Attached]) -> None:
    """What travels with a payload counts with it, as far as it is bytes. Raises PayloadTooLarge."""
    size += sum(len(each.data) for each in attached)
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge("MK0603", size=size, limit=MAX_PAYLOAD)


def _no_value(value: Any, failure: BaseException, encoder: msgspec.msgpack.Encoder) -> NotPlainData:
    path, kind, offender = _find_offender(value, encoder)
    reason = valid_text(str(failure))
    return NotPlainData("MK0602", path=valid_text(path), kind=kind, cure=_cure(offender), reason=reason)


def decode(data: bytes | memoryview | msgspec.Raw, type: Any = Any, attached: Sequence[Any] = ()) -> Any:
    """The value of some bytes, checked and converted to ``type``. Raises InvalidArguments with the path."""
    try:
        if attached:
            return decoder_for(type, attached)(data)
        return (_plain if type is Any else _decoder(type)).decode(data)
    except _DECODE_FAILURES as failure:
        raise invalid(failure) from None


def decode_with_texts(data: bytes | memoryview | msgspec.Raw, attached: Sequence[Any] = ()) -> Any:
    """The value of some bytes, in which each CommandText is one still. Raises InvalidArguments."""
    try:
        return (_attached_to(attached, _keep) if attached else _keeping).decode(data)
    except _DECODE_FAILURES as failure:
        raise invalid(failure) from None


def convert(value: Any, type: Any) -> Any:
    """A decoded value, checked and converted to ``type``. Raises InvalidArguments with the path."""
    if type is Any:
        return value
    try:
        return msgspec.convert(value, type, builtin_types=_NATIVE, dec_hook=_adapt)
    except _DECODE_FAILURES as failure:
        raise invalid(failure) from None


def encode_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], attach: Attach[T]
) -> tuple[msgspec.Raw, msgspec.Raw, tuple[T, ...]]:
    """The bytes of a call's arguments, which are one payload, and what is attached. Raises as ``encode`` does."""
    first, attached = encode_with(args, attach) if args else (b"\x90", ())
    named, attached = encode_with(kwargs, attach, attached) if kwargs else (b"\x80", attached)
    if attached or len(first) + len(named) > MAX_PAYLOAD:
        check_size(len(first) + len(named), attached)
    return msgspec.Raw(first), msgspec.Raw(named), attached


def plain_text(text: str, longest: int = 16_000) -> str:
    """A text that can travel: Python's may hold half characters, and have any length."""
    short = text if len(text) <= longest else text[:longest] + " …"
    return valid_text(short)


def invalid(failure: BaseException) -> InvalidArguments:
    """What a failed decode is called outside: InvalidArguments with the reason and the path in it."""
    return InvalidArguments("MK0605", reason=str(failure) or type(failure).__name__)


def decoder_for(type: Any, attached: Sequence[Any] = ()) -> Callable[[Any], Any]:
    """The bare C decoder of a type, for hot paths; its failures are for ``invalid`` to name."""
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


MARKS_OF_RECORDS = ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__")
"""What classes have whose fields are decoded one by one."""
KNOWN_TYPES = frozenset({
    bool, int, float, str, bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal, UUID, list, dict,
    tuple, set, frozenset, msgspec.Raw, msgspec.msgpack.Ext, type(None), type(UNSET),
})  # fmt: skip
DECODE_FAILURES = _DECODE_FAILURES
encode_message: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""The bare C encoder, for what is known to be plain."""


def record_type(
    name: str, fields: Iterable[tuple[str, Any, Any]], *, as_array: bool = False, closed: bool = False
) -> type[msgspec.Struct]:
    """A type that decodes a dict (or, ``as_array``, a list) into named and typed fields.

    ``fields`` are (name, type, default), default ``NODEFAULT`` where there is none. What is not among them is skipped,
    or refused if ``closed``.
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


values_of: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
"""The fields of a record, in their order."""


def schema(type: Any) -> dict[str, Any]:
    """The JSON schema of a type; empty where it has none."""
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
    """Types that were decoded to are kept for the next time, also those of a plugin that has gone."""
    _decoder.cache_clear()


def _find_offender(value: Any, encoder: msgspec.msgpack.Encoder) -> tuple[str, str, Any]:
    """Where in ``value`` the first thing is that cannot be encoded, its type, and itself. Only runs when encoding
    failed."""
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
