"""Decode MessagePack bytes to plain values.

A reader takes the bytes, the offset of the value, and the remaining depth; it returns the value and the offset of its
end. It does not check whether a text extends beyond the bytes: ``unpack`` checks where the last one ends, and reading
beyond the end raises IndexError or struct.error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct as Layout
from struct import error as ShortOfBytes  # noqa: N812
from typing import Any

from microkernel.guest import datetimes
from microkernel.guest.values import ATTACHED, MAX_DEPTH, DecodeError, Ext, Raw
from microkernel.wire.command_text import TEXT, from_bytes

Reader = Callable[[bytes, int, int], tuple[Any, int]]

TRUNCATED = "Input data was truncated"
_MALFORMED = "MessagePack data is malformed: "
_U16, _U32 = Layout(">H").unpack_from, Layout(">I").unpack_from
# The attachments of the bytes that are being read: a guest has one thread.
_attached: Sequence[Any] = ()
_keep_texts = False
# Number of CommandTexts that were read.
_texts = 0


def unpack_with_texts(data: Any, attached: Sequence[Any] = ()) -> Any:
    """Return the value of these bytes, and keep each CommandText in it."""
    global _keep_texts
    before, _keep_texts = _keep_texts, True
    try:
        return unpack_with(attached, data)
    finally:
        _keep_texts = before


def unpack_typed(data: Any, read: Reader | None = None, attached: Sequence[Any] = ()) -> Any:
    """Return the value of bytes that will be converted to a type. Raises DecodeError for a CommandText; the caller, who
    knows the type, then decodes again with the texts and converts them."""
    before = _texts
    value = unpack_with(attached, data, read) if attached else unpack(data, read)
    if _texts != before:
        raise DecodeError("Expected a value, got `ext`")
    return value


def unpack_with(attached: Sequence[Any], data: Any, read: Reader | None = None) -> Any:
    """Like ``unpack``, for bytes with attachments."""
    global _attached
    before, _attached = _attached, attached
    try:
        return unpack(data, read)
    finally:
        _attached = before


def unpack(data: Any, read: Reader | None = None) -> Any:
    """Return the single value in these bytes; Raw stays encoded. Raises DecodeError, ValueError or RecursionError."""
    if type(data) is Raw:
        base, start, end = data.base, data.start, data.end
    else:
        base = data if type(data) is bytes else bytes(memoryview(data))
        start, end = 0, len(base)
    try:
        value, stop = (read or read_value)(base, start, MAX_DEPTH)
    except (IndexError, ShortOfBytes):
        raise DecodeError(TRUNCATED) from None
    except UnicodeDecodeError:
        raise DecodeError("Invalid UTF-8 encoded string") from None
    if stop != end:
        raise DecodeError(TRUNCATED if stop > end else f"{_MALFORMED}trailing characters (byte {stop - start})")
    return value


def read_value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Read any value."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    if 0xA0 <= first < 0xC0:
        end = at + first - 0x9F
        return data[at + 1 : end].decode(), end
    return readers[first](data, at, depth)


def array_size(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of items of the array at this offset, -1 if it is not an array, and the offset of the first."""
    first = data[at]
    if 0x90 <= first < 0xA0:
        return first - 0x90, at + 1
    if first == 0xDC:
        return _U16(data, at + 1)[0], at + 3
    if first == 0xDD:
        return _U32(data, at + 1)[0], at + 5
    return -1, at


def _items(data: bytes, at: int, depth: int, size: int) -> tuple[list[Any], int]:
    if not depth:
        raise RecursionError("nested too deep")
    items: list[Any] = []
    append, depth = items.append, depth - 1
    for _ in range(size):
        first = data[at]
        if first < 0x80:
            append(first)
            at += 1
        elif 0xA0 <= first < 0xC0:
            end = at + first - 0x9F
            append(data[at + 1 : end].decode())
            at = end
        else:
            value, at = readers[first](data, at, depth)
            append(value)
    return items, at


def _pairs(data: bytes, at: int, depth: int, size: int) -> tuple[dict[Any, Any], int]:
    if not depth:
        raise RecursionError("nested too deep")
    pairs: dict[Any, Any] = {}
    depth -= 1
    for _ in range(size):
        first = data[at]
        if 0xA0 <= first < 0xC0:
            end = at + first - 0x9F
            key: Any = data[at + 1 : end].decode()
            at = end
        else:
            key, at = _key(data, at, depth)
        first = data[at]
        if first < 0x80:
            value: Any = first
            at += 1
        else:
            value, at = readers[first](data, at, depth)
        try:
            pairs[key] = value
        except TypeError:
            raise DecodeError(f"{_MALFORMED}map keys must be hashable (byte {at})") from None
    return pairs, at


def _key(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Read a key of a map: an array becomes a tuple."""
    size, _ = array_size(data, at)
    key, end = read_value(data, at, depth)
    return hashable(key) if size >= 0 else key, end


def hashable(value: Any) -> Any:
    """Return the value with lists converted to tuples, recursively."""
    return tuple(map(hashable, value)) if type(value) is list else value


def skip(data: bytes, at: int) -> int:
    """Return the end of the value at this offset. Ignores its content, and supports any depth."""
    sizes, inner, left = _SIZES, _INNER, 1
    while left:
        first = data[at]
        if size := sizes[first]:
            at += size
            left += inner[first] - 1
        else:
            at, more = _skip_long(data, at, first)
            left += more - 1
    if at > len(data):
        raise IndexError(at)
    return at


def _skip_long(data: bytes, at: int, first: int) -> tuple[int, int]:
    """Skip the head of a value that contains its length; return the number of values inside it as well."""
    if first in _SIZED:
        width, more = _SIZED[first]
        end = at + 1 + width
        return end + int.from_bytes(data[at + 1 : end], "big") + more, 0
    if first == 0xC1:
        raise DecodeError(f"{_MALFORMED}invalid opcode '\\xc1' (byte {at})")
    size, start = array_size(data, at)
    return (start, size) if size >= 0 else _map_head(data, at, first)


def _map_head(data: bytes, at: int, first: int) -> tuple[int, int]:
    return (at + 3, 2 * _U16(data, at + 1)[0]) if first == 0xDE else (at + 5, 2 * _U32(data, at + 1)[0])


# Texts, bytes and extensions with an explicit length: the number of bytes of that length, and of bytes in addition to
# it.
_SIZED = {
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0), 0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1),
    0xC9: (4, 1),
}  # fmt: skip
_FIXED = {
    0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9, 0xCA: 5,
    0xCB: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18,
}  # fmt: skip


def _size_of(first: int) -> int:
    """Return the size of a value with this first byte, without the values in it; 0 if the first byte does not determine
    it."""
    if first < 0xA0 or first >= 0xE0:
        return 1
    return first - 0x9F if 0xA0 <= first < 0xC0 else _FIXED.get(first, 0)


_SIZES = [_size_of(first) for first in range(256)]
# Number of values inside a short map or a short array.
_INNER = [0] * 0x80 + [2 * pairs for pairs in range(16)] + [*range(16)] + [0] * 0x60


def _constant(value: Any) -> Reader:
    return lambda data, at, depth: (value, at + 1)


def _number(code: str) -> Reader:
    layout = Layout(">x" + code)
    take, size = layout.unpack_from, layout.size
    return lambda data, at, depth: (take(data, at)[0], at + size)


def _long(first: int, make: Callable[[bytes], Any]) -> Reader:
    head = 1 + _SIZED[first][0]

    def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
        start = at + head
        end = start + int.from_bytes(data[at + 1 : start], "big")
        return make(data[start:end]), end

    return read


def _ext(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    global _texts
    end = skip(data, at)
    start = at + 1 + _SIZED.get(data[at], (0, 0))[0]
    code, content = data[start], data[start + 1 : end]
    if code == ATTACHED and _attached:
        if len(content) != 1 or content[0] >= len(_attached):
            raise DecodeError("it refers to what is not attached")
        return _attached[content[0]], end
    if code == TEXT:
        _texts += 1
        return (from_bytes(content) if _keep_texts else from_bytes(content).value), end
    return (datetimes.from_timestamp(content) if code == 0xFF else Ext(code - (code >> 7 << 8), content)), end


def _short_array(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    return _items(data, at + 1, depth, data[at] - 0x90)


def _array(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    size, start = array_size(data, at)
    return _items(data, start, depth, size)


def _map(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    start, twice = _map_head(data, at, data[at])
    return _pairs(data, start, depth, twice // 2)


def _short_map(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    return _pairs(data, at + 1, depth, data[at] - 0x80)


def _never(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    raise DecodeError(f"{_MALFORMED}invalid opcode '\\xc1' (byte {at})")


def _reader_of(first: int) -> Reader:
    if first < 0x80:
        return _constant(first)
    if first < 0xC0:
        return _short_map if first < 0x90 else _short_array if first < 0xA0 else read_value
    return _constant(first - 0x100) if first >= 0xE0 else _OTHERS[first]


_OTHERS: dict[int, Reader] = {
    0xC0: _constant(None), 0xC1: _never, 0xC2: _constant(False), 0xC3: _constant(True), 0xCA: _number("f"),
    0xCB: _number("d"), 0xCC: _number("B"), 0xCD: _number("H"), 0xCE: _number("I"), 0xCF: _number("Q"),
    0xD0: _number("b"), 0xD1: _number("h"), 0xD2: _number("i"), 0xD3: _number("q"), 0xDC: _array, 0xDD: _array,
    0xDE: _map, 0xDF: _map,
} | dict.fromkeys((*range(199, 202), *range(212, 217)), _ext) | {
    first: _long(first, bytes) for first in (0xC4, 0xC5, 0xC6)
} | {first: _long(first, bytes.decode) for first in (0xD9, 0xDA, 0xDB)}  # fmt: skip
readers = [_reader_of(first) for first in range(256)]
