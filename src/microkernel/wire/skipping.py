"""Find the end of a MessagePack value in steps, so that a value of very many small ones does not block its reader.

A C decoder finds the end of sixteen million empty lists too, but in one go, which takes a tenth of a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from functools import cache

# Steps between two pauses. A step takes at most a microsecond, a step over a run of values some tens of microseconds.
_STEPS = 256
_MAX_DEPTH = 512
_LONG_RUN, _SHORT_RUN = 512, 16
_BYTES_OF_LENGTH = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
_SIZES = {
    0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6,
    0xD7: 10, 0xD8: 18,
}  # fmt: skip


def _sizes() -> tuple[int, ...]:
    """Return the size in bytes of each value that contains no others, by its first byte; 0 if the first byte does not
    determine it."""
    sizes = [0] * 256
    for first in (*range(0x80), *range(0xE0, 0x100), 0x80, 0x90, 0xC0, 0xC2, 0xC3):
        sizes[first] = 1
    for first in range(0xA0, 0xC0):
        sizes[first] = first - 0xA0 + 1
    for first, size in _SIZES.items():
        sizes[first] = size
    return tuple(sizes)


_SIZE_OF = _sizes()


def _simple() -> bytes:
    """Return a pattern for one value whose first byte determines its length."""
    by_size: dict[int, bytes] = {}
    for first, size in enumerate(_SIZE_OF):
        if size:
            by_size[size] = by_size.get(size, b"") + re.escape(bytes([first]))
    kinds = [b"[%b].{%d}" % (firsts, size - 1) for size, firsts in sorted(by_size.items())]
    return b"(?>%b)" % b"|".join(kinds)


def _runs(count: int) -> re.Pattern[bytes]:
    """Return a pattern for ``count`` consecutive values that are simple, or maps or lists of a few simple ones."""
    simple = _simple()
    heads = [(0x80 + size, 2 * size) for size in range(1, 16)] + [(0x90 + size, size) for size in range(1, 16)]
    containers = [re.escape(bytes([first])) + b"%b{%d}" % (simple, inner) for first, inner in heads]
    return re.compile(b"(?>%b|%b){%d}" % (simple, b"|".join(containers), count), re.DOTALL)


@cache
def _matchers() -> tuple[tuple[int, Callable[[bytes, int], re.Match[bytes] | None]], ...]:
    return tuple((count, _runs(count).match) for count in (_LONG_RUN, _SHORT_RUN))


def prepare() -> None:
    """Compile the patterns of ``skip`` in advance, which takes some tens of milliseconds."""
    _matchers()


def skip(data: bytes, at: int) -> Generator[None, None, tuple[int, int]]:
    """Yield now and then; return where the value that starts at ``at`` ends, and how many values it contains.

    Raises ValueError for bytes that are not a value.
    """
    left, values, until_pause = [1], 0, _STEPS
    while left:
        if not left[-1]:
            left.pop()
            continue
        run, end = _run(data, at, left[-1])
        if run:
            inner = 0
        else:
            run, (end, inner) = 1, _enter(data, at)
        at, values, left[-1] = end, values + run, left[-1] - run
        if inner:
            left.append(inner)
        if at > len(data) or len(left) > _MAX_DEPTH:
            raise ValueError("it ends within a value, or is nested too deep")
        until_pause -= 1 + run // _SHORT_RUN
        if until_pause <= 0:
            until_pause = _STEPS
            yield
    return at, values


def _run(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return the number of consecutive values that can be skipped at once, at most ``limit``, and where they end; 0 if
    there is no such run."""
    for count, match in _matchers():
        if limit >= count and (found := match(data, at)):
            return count, found.end()
    return 0, at


def _enter(data: bytes, at: int) -> tuple[int, int]:
    """Return where a value ends and 0, or where its head ends and how many values follow inside it."""
    if at >= len(data):
        raise ValueError("it ends where a value should begin")
    first = data[at]
    if size := _SIZE_OF[first]:
        return at + size, 0
    if first < 0xA0:  # a map or list of a few values
        return at + 1, first & 0x0F if first >= 0x90 else 2 * (first & 0x0F)
    width = _BYTES_OF_LENGTH.get(first, 0)
    if not width:
        raise ValueError(f"no value begins with {first:#x}")
    length = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    end = at + 1 + width
    if first >= 0xDC:
        return end, length if first < 0xDE else 2 * length
    return end + length + (0xC7 <= first <= 0xC9), 0  # an extension also has a type byte
