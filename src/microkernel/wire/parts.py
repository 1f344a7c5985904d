"""Split a large frame into its messages before anything in them is decoded. Used by the kernel only.

Payloads stay encoded, and the decoder does not even scan them. All other parts become Python objects, which can be many
times as large as their bytes, so each part has a bound that fits its purpose.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from microkernel.errors import ProtocolError
from microkernel.wire import messages
from microkernel.wire.codec import MAX_ATTACHED, Raw, decoder_for, encode_message
from microkernel.wire.skipping import skip

# Maximum size in bytes of a frame that is decoded as a whole, in a few milliseconds and with little memory.
MAX_WHOLE = 64 * 1024
# Maximum sizes in bytes: of a part that is not a payload; of the parts that describe methods, with documentation and
# schemas; of a payload that the decoder scans nevertheless.
MAX_PART = 1024 * 1024
MAX_METHODS = 4 * 1024 * 1024
_MIN_RAW = 64 * 1024
_MAX_PARTS = 32
_DESCRIPTIONS = {(messages.Loaded, "methods"), (messages.Expose, "method")}
_NIL = b"\xc0"


def take_apart(body: bytes) -> Iterator[messages.Message | None]:
    """Yield the messages of a frame one by one, and None where the caller should do other work before the next.

    Raises ProtocolError for a message with a part that is too large, ValueError or a decoder's error for bytes that are
    not messages.
    """
    count, at = _list_at(body, 0)
    for _ in range(count):
        size, start = _list_at(body, at)
        if not 0 < size <= _MAX_PARTS:
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
    """Return the number of items of the list at ``at``, and where the first one starts."""
    first = body[at] if at < len(body) else 0
    if 0x90 <= first < 0xA0:
        return first - 0x90, at + 1
    if first not in _WIDTHS:
        raise ValueError("not a list")
    width = _WIDTHS[first]
    return int.from_bytes(body[at + 1 : at + 1 + width], "big"), at + 1 + width


_WIDTHS = {0xDC: 2, 0xDD: 4}


def _assemble(body: bytes, parts: Sequence[tuple[int, int, int]]) -> messages.Message:
    """Decode a message without its large payloads, then insert these."""
    fields = _fields().get(body[slice(*parts[0][:2])], ())
    pieces, payloads = [bytes([0xDC]) + len(parts).to_bytes(2, "big")], []
    for number, (start, end, values) in enumerate(parts, -1):
        name, max_bytes, max_values = fields[number] if 0 <= number < len(fields) else ("", MAX_PART, 0)
        if (max_bytes and end - start > max_bytes) or (max_values and values > max_values):
            raise ProtocolError("MK0215", reason=f"a part of {end - start:,} bytes, over the limit of {max_bytes:,}")
        is_payload = not max_bytes and not max_values and end - start > _MIN_RAW
        pieces.append(_NIL if is_payload else body[start:end])
        if is_payload:
            is_most = 2 * (end - start) >= len(body)
            payloads.append((name, Raw(memoryview(body)[start:end] if is_most else body[start:end])))
    rest = b"".join(pieces)
    message = with_copied_payload(_decoder()(rest), len(rest))
    for name, payload in payloads:
        setattr(message, name, payload)
    return message


def with_copied_payload(message: messages.Message, size: int) -> messages.Message:
    """Return the message with its payload copied if the kernel may store it and it is the smaller part of the body of
    ``size`` bytes, because a payload keeps the whole body alive."""
    for name in STORED.get(type(message), ()):
        payload = getattr(message, name)
        if 2 * len(payload) < size:
            setattr(message, name, payload.copy())
    return message


STORED: Mapping[type, Sequence[str]] = {
    messages.Call: ("args", "kwargs"), messages.Response: ("value",), messages.Data: ("value",),
    messages.Exported: ("state",), messages.DirectReply: ("value",), messages.DirectReturn: ("args", "kwargs"),
}  # fmt: skip


@cache
def _decoder() -> typing.Callable[[bytes], messages.Message]:
    return decoder_for(messages.Any_)


@cache
def _fields() -> Mapping[bytes, Sequence[tuple[str, int, int]]]:
    """Return the fields of each message by its encoded tag: name, maximum bytes and maximum values; 0 for no
    maximum."""
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
        return 0, 8 * MAX_ATTACHED
    return (MAX_METHODS if (kind, name) in _DESCRIPTIONS else MAX_PART), 0
