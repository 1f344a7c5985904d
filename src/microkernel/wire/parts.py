"""The messages of a large frame, taken apart before anything in them is decoded. Only a kernel does so.

A payload stays encoded, and is not even looked through by the decoder. What else is in a message becomes Python's
objects, which can be many times as large as their bytes, so it is bounded as fits what it is for.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from microkernel.errors import ProtocolError
from microkernel.wire import messages
from microkernel.wire.codec import MOST_ATTACHED, Raw, decoder_for, encode_message
from microkernel.wire.skipping import skip

# Bytes of a frame that is decoded as a whole: that takes some milliseconds at most, and not much memory.
WHOLE = 64 * 1024
# Bytes of a part of a message that is no payload; of what describes methods, with their documentation and schemas; and
# of a payload that the decoder looks through all the same.
MAX_PART = 1024 * 1024
MAX_METHODS = 4 * 1024 * 1024
_SMALL = 64 * 1024
_MOST_PARTS = 32
_DESCRIPTIONS = {(messages.Loaded, "methods"), (messages.Expose, "method")}
_NIL = b"\xc0"


def take_apart(body: bytes) -> Iterator[messages.Message | None]:
    """The messages of a frame, one by one; None where a pause is due before the next one.

    Raises ProtocolError for a message of which a part is too large for what it is, ValueError or what a decoder raises
    for what is no message.
    """
    count, at = _list_at(body, 0)
    for _ in range(count):
        size, start = _list_at(body, at)
        if not 0 < size <= _MOST_PARTS:
            raise ValueError(f"a message of {size:,} parts")
        parts: list[tuple[int, int, int]] = []
        at = start
        for _ in range(size):
            end, values = yield from skip(body, at)
            parts.append((at, end, values))
            at = end
        yield _assemble(body, parts)
    if at != len(body):
        raise ValueError("there is something behind the last message")


def _list_at(body: bytes, at: int) -> tuple[int, int]:
    """How many items a list has that begins here, and where the first one begins."""
    first = body[at] if at < len(body) else 0
    if 0x90 <= first < 0xA0:
        return first - 0x90, at + 1
    if first not in _WIDTHS:
        raise ValueError("not a list")
    width = _WIDTHS[first]
    return int.from_bytes(body[at + 1 : at + 1 + width], "big"), at + 1 + width


_WIDTHS = {0xDC: 2, 0xDD: 4}


def _assemble(body: bytes, parts: Sequence[tuple[int, int, int]]) -> messages.Message:
    """Decode a message without its large payloads, and put these back."""
    fields = _fields().get(body[slice(*parts[0][:2])], ())
    pieces, payloads = [bytes([0xDC]) + len(parts).to_bytes(2, "big")], []
    for number, (start, end, values) in enumerate(parts, -1):
        name, most, most_values = fields[number] if 0 <= number < len(fields) else ("", MAX_PART, 0)
        if (most and end - start > most) or (most_values and values > most_values):
            raise ProtocolError("MK0215", reason=f"a part of {end - start:,} bytes, over the limit of {most:,}")
        is_payload = not most and not most_values and end - start > _SMALL
        pieces.append(_NIL if is_payload else body[start:end])
        if is_payload:
            is_most = 2 * (end - start) >= len(body)
            payloads.append((name, Raw(memoryview(body)[start:end] if is_most else body[start:end])))
    rest = b"".join(pieces)
    message = detached(_decoder()(rest), len(rest))
    for name, payload in payloads:
        setattr(message, name, payload)
    return message


def detached(message: messages.Message, size: int) -> messages.Message:
    """The message, of a body of so many bytes. A payload refers to the whole body: what the kernel may keep, and is the
    smaller part of it, is copied."""
    for name in KEPT.get(type(message), ()):
        payload = getattr(message, name)
        if 2 * len(payload) < size:
            setattr(message, name, payload.copy())
    return message


KEPT: Mapping[type, Sequence[str]] = {
    messages.Call: ("args", "kwargs"), messages.Reply: ("value",), messages.Data: ("value",),
    messages.Exported: ("state",),
}  # fmt: skip


@cache
def _decoder() -> typing.Callable[[bytes], messages.Message]:
    return decoder_for(messages.Any_)


@cache
def _fields() -> Mapping[bytes, Sequence[tuple[str, int, int]]]:
    """For each message, by its encoded tag, its fields: the name, the most bytes and the most values; 0 for any."""
    found = {}
    for kind in typing.get_args(messages.Any_):
        hints = typing.get_type_hints(kind, include_extras=True)
        tag = encode_message(kind.__struct_config__.tag)
        found[tag] = [(name, *_bounds(kind, name, hints[name])) for name in kind.__struct_fields__]
    return found


def _bounds(kind: type, name: str, hint: object) -> tuple[int, int]:
    if hint is Raw:
        return 0, 0
    if hint == messages.Shares:
        return 0, 8 * MOST_ATTACHED
    return (MAX_METHODS if (kind, name) in _DESCRIPTIONS else MAX_PART), 0
