"""Encode values to MessagePack bytes, as msgspec writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import EnumMeta
from struct import Struct as Layout
from typing import Any
from uuid import UUID

from microkernel.guest import datetimes
from microkernel.guest.records import Struct, StructMeta
from microkernel.guest.values import MAX_DEPTH, UNSET, Ext, Raw
from microkernel.wire.command_text import TEXT, CommandText
from microkernel.wire.plain import plain

Put = Callable[[bytes], object]
Packer = Callable[[Any, Put, int], None]
EncodeHook = Callable[[Any], Ext | None]

# The function of the current call of ``pack``: a guest has one thread.
_enc_hook: EncodeHook | None = None

_SMALL = [bytes([n]) for n in range(128)]
_ARRAY = [bytes([0x90 | n]) for n in range(16)]
_MAP = [bytes([0x80 | n]) for n in range(16)]
_TEXT = [bytes([0xA0 | n]) for n in range(32)]
_U8, _U16, _U32, _U64 = (Layout(">B" + code).pack for code in "BHIQ")
_I8, _I16, _I32, _I64 = (Layout(">B" + code).pack for code in "bhiq")
_FLOAT = Layout(">Bd").pack


def pack(value: Any, enc_hook: EncodeHook | None = None) -> bytes:
    """Return the bytes of a value; ``enc_hook`` may return an extension for an object that is not a value.

    Raises TypeError, OverflowError, ValueError, or RecursionError for values nested deeper than MAX_DEPTH.
    """
    global _enc_hook
    parts: list[bytes] = []
    before, _enc_hook = _enc_hook, enc_hook
    try:
        packer_of(type(value))(value, parts.append, MAX_DEPTH)
    finally:
        _enc_hook = before
    return b"".join(parts)


def packer_of(kind: type) -> Packer:
    """Return the packer of a class, cached."""
    try:
        return _packers[kind]
    except KeyError:
        packer = _packers[kind] = _find(kind)
        return packer


def forget_classes() -> None:
    """Clear the cache of classes."""
    _packers.clear()
    _packers.update(_PLAIN)


def _int(value: int, put: Put, depth: int) -> None:
    put(_SMALL[value] if 0 <= value < 0x80 else _int_bytes(value))


def _int_bytes(value: int) -> bytes:
    if value >= 0:
        return _unsigned(value)
    if value >= -0x20:
        return bytes([value & 0xFF])
    if value >= -0x8000:
        return _I8(0xD0, value) if value >= -0x80 else _I16(0xD1, value)
    if value >= -(2**63):
        return _I32(0xD2, value) if value >= -(2**31) else _I64(0xD3, value)
    raise OverflowError(_TOO_WIDE)


def _unsigned(value: int) -> bytes:
    if value < 0x10000:
        return _U8(0xCC, value) if value < 0x100 else _U16(0xCD, value)
    if value < 2**64:
        return _U32(0xCE, value) if value < 2**32 else _U64(0xCF, value)
    raise OverflowError(_TOO_WIDE)


_TOO_WIDE = "can't serialize ints < -2**63 or > 2**64 - 1"


def _none(value: None, put: Put, depth: int) -> None:
    put(b"\xc0")


def _bool(value: bool, put: Put, depth: int) -> None:
    put(b"\xc3" if value else b"\xc2")


def _float(value: float, put: Put, depth: int) -> None:
    put(_FLOAT(0xCB, value))


def _str(value: str, put: Put, depth: int) -> None:
    data = str.encode(value)
    size = len(data)
    put(_TEXT[size] if size < 32 else _head(size, 0xD9, 0xDA, 0xDB))
    put(data)


def _bytes(value: bytes | bytearray, put: Put, depth: int) -> None:
    put(_head(len(value), 0xC4, 0xC5, 0xC6))
    put(bytes(value))


def _view(value: memoryview, put: Put, depth: int) -> None:
    if not value.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    _bytes(value.tobytes(), put, depth)


def _head(size: int, short: int, middle: int, long: int) -> bytes:
    if size < 0x100:
        return _U8(short, size)
    return _U16(middle, size) if size < 0x10000 else _U32(long, size)


def _array_head(size: int) -> bytes:
    if size < 16:
        return _ARRAY[size]
    return _U16(0xDC, size) if size < 0x10000 else _U32(0xDD, size)


def _map_head(size: int) -> bytes:
    if size < 16:
        return _MAP[size]
    return _U16(0xDE, size) if size < 0x10000 else _U32(0xDF, size)


def _raw(value: Raw, put: Put, depth: int) -> None:
    put(value.base[value.start : value.end])


def _sequence(value: Any, put: Put, depth: int) -> None:
    put(_array_head(len(value)))
    _items(value, put, depth)


def _items(values: Iterable[Any], put: Put, depth: int) -> None:
    if not depth:
        raise RecursionError("nested too deep")
    packers, depth = _packers, depth - 1
    for item in values:
        packer = packers.get(type(item)) or packer_of(type(item))
        packer(item, put, depth)


def _dict(value: dict[Any, Any], put: Put, depth: int) -> None:
    _pairs(value.items(), len(value), put, depth)


def _pairs(pairs: Iterable[tuple[Any, Any]], size: int, put: Put, depth: int) -> None:
    if not depth:
        raise RecursionError("nested too deep")
    put(_map_head(size))
    packers, depth = _packers, depth - 1
    for key, item in pairs:
        if type(key) is str and len(data := key.encode()) < 32:
            put(_TEXT[len(data)])
            put(data)
        else:
            packer_of(type(key))(key, put, depth)
        packer = packers.get(type(item)) or packer_of(type(item))
        packer(item, put, depth)


def _record(kind: StructMeta) -> Packer:
    names, values_of, tag = kind.__struct_fields__, kind.__values__, kind.__tag__
    head = _array_head(len(names)) if tag is None else _array_head(1 + len(names)) + pack(tag)

    def pack_array(value: Struct, put: Put, depth: int) -> None:
        put(head)
        _items(values_of(value), put, depth)

    def pack_map(value: Struct, put: Put, depth: int) -> None:
        known = [pair for pair in zip(names, values_of(value), strict=True) if pair[1] is not UNSET]
        _pairs(known, len(known), put, depth)

    return pack_array if kind.__array_like__ else pack_map


def _dataclass(value: Any, put: Put, depth: int) -> None:
    known: list[tuple[str, Any]] = []
    for name in value.__dataclass_fields__:
        try:
            item = getattr(value, name)
        except (AttributeError, KeyError):
            continue
        if item is not UNSET:
            known.append((name, item))
    _pairs(known, len(known), put, depth)


def _datetime(value: datetime, put: Put, depth: int) -> None:
    if value.tzinfo is None:
        return _str(datetimes.datetime_text(value), put, depth)
    seconds, nanoseconds = datetimes.since_epoch(value)
    if seconds >> 34:
        put(b"\xc7\x0c\xff" + nanoseconds.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True))
    elif nanoseconds or seconds >> 32:
        put(b"\xd7\xff" + (nanoseconds << 34 | seconds).to_bytes(8, "big"))
    else:
        put(b"\xd6\xff" + seconds.to_bytes(4, "big"))
    return None


def _ext(value: Ext, put: Put, depth: int) -> None:
    size = len(value.data)
    fixed = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}.get(size)
    put((fixed or _head(size, 0xC7, 0xC8, 0xC9)) + (value.code & 0xFF).to_bytes(1, "big"))
    put(value.data)


def _enum(value: Any, put: Put, depth: int) -> None:
    packer_of(type(value._value_))(value._value_, put, depth)


def _as_text(text: Callable[[Any], str]) -> Packer:
    return lambda value, put, depth: _str(text(value), put, depth)


def _command_text(value: Any, put: Put, depth: int) -> None:
    _ext(Ext(TEXT, value.encode()), put, depth)


def _refused(value: Any, put: Put, depth: int) -> None:
    found = _enc_hook(value) if _enc_hook is not None else None
    if found is None:
        found = plain(value)
    packer_of(type(found))(found, put, depth)


_PLAIN: dict[type, Packer] = {
    str: _str, int: _int, float: _float, bool: _bool, type(None): _none, list: _sequence, dict: _dict, bytes: _bytes,
    bytearray: _bytes, memoryview: _view, tuple: _sequence, datetime: _datetime, date: _as_text(datetimes.date_text),
    time: _as_text(datetimes.time_text), timedelta: _as_text(datetimes.timedelta_text), Ext: _ext, Raw: _raw,
    Decimal: _as_text(str), UUID: _as_text(str), set: _sequence, frozenset: _sequence,
}  # fmt: skip
_packers = dict(_PLAIN)


def _find(kind: type) -> Packer:
    """Return the packer of a class that is not plain, in msgspec's order of precedence."""
    if issubclass(kind, list | dict):
        return _sequence if issubclass(kind, list) else _dict
    if isinstance(kind, StructMeta):
        return _record(kind)
    if issubclass(kind, tuple):
        return _sequence
    if isinstance(kind, EnumMeta):
        return _int if issubclass(kind, int) else _str if issubclass(kind, str) else _enum
    if issubclass(kind, UUID):
        return _as_text(str)
    if issubclass(kind, set | frozenset):
        return _sequence
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass
    if issubclass(kind, CommandText):
        return _command_text
    if issubclass(kind, str):
        return _str
    return _bytes if issubclass(kind, bytes) else _refused
