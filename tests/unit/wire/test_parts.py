"""Large frames are split in steps, give the same messages, and are bounded by the purpose of each part."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from microkernel.errors import ProtocolError
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode
from microkernel.wire.messages import Attachment, Call, Data, Emit, Handler, Loaded, Log, Method
from microkernel.wire.parts import MAX_PART, MAX_WHOLE, take_apart
from microkernel.wire.session import Session, pack
from microkernel.wire.skipping import skip

MiB = 1 << 20


def end_of(data: bytes, at: int = 0) -> tuple[int, int]:
    """Return where a value ends, and the number of pauses."""
    walk, pauses = skip(data, at), 0
    while True:
        try:
            next(walk)
        except StopIteration as done:
            return done.value[0], pauses
        pauses += 1


def value(depth: int = 0) -> Any:
    match random.randrange(8):
        case 0:
            return random.choice([None, True, 1, -5, 300, -70_000, 2**40, 1.5])
        case 1:
            return "x" * random.choice([0, 5, 31, 32, 300, 70_000] if depth < 2 else [0, 31, 32])
        case 2:
            return bytes(random.choice([0, 5, 300, 70_000] if depth < 2 else [0, 5]))
        case 3:
            return msgspec.msgpack.Ext(5, bytes(random.choice([1, 2, 4, 8, 16, 3, 300])))
        case 4 | 5 if depth < 3:
            return [value(depth + 1) for _ in range(random.choice([0, 1, 15, 20]))]
        case 6 if depth < 3:
            return {str(number): value(depth + 1) for number in range(random.choice([0, 2, 15, 17]))}
    return [random.randrange(100) for _ in range(random.choice([40, 600]))]


def test_a_value_ends_where_the_encoder_ended_it() -> None:
    random.seed(12)
    for _ in range(100):
        data = msgspec.msgpack.encode(value())
        assert end_of(b"\xc3" + data + b"\xc3", 1)[0] == 1 + len(data)


@pytest.mark.parametrize("item", [b"\x90", b"\x91\x00", b"\x91\x91\x00", b"\xcb" + bytes(8), b"\x81\xa1a\x01", b"\xa0"])
def test_many_small_values_are_skipped_in_steps(item: bytes) -> None:
    count = 50_000
    data = b"\xdd" + struct.pack(">I", count) + item * count
    end, pauses = end_of(data)
    assert end == len(data)
    assert pauses >= 3


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91", b"\xdd\0\0\0\5\0", b"\x91" * 10_000, b"\xdb\xff\xff\xff\xff"])
def test_bytes_that_are_not_a_value_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends|begins"):
        end_of(data)


def apart(*batch: messages.Message) -> list[messages.Message]:
    return [message for message in take_apart(pack(batch)[4:]) if message is not None]


LARGE = Raw(encode(bytes(200_000)))
NESTED = Raw(encode([{"a": [number, "x"]} for number in range(20_000)]))


@pytest.mark.parametrize(
    "message",
    [
        Emit("a.b", LARGE), Emit("a.b", NESTED, (Attachment(3, data=b"abc"),)), Data(7, "set", "a.key", NESTED, 5),
        Call(9, "a.b", LARGE, NESTED, 1.5, 2, ["x"]), Log(20, "x" * 100_000, 1.0), messages.Exported(LARGE),
        Loaded([Handler(1, "a", "b")], [Method("m", doc="d" * 100_000)], "doc"), messages.Response(3, LARGE),
    ],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_the_messages_are_those_that_were_sent(message: messages.Message) -> None:
    found = apart(messages.Ping(1), message, messages.Ping(2))
    assert found == [messages.Ping(1), message, messages.Ping(2)]
    assert pack(found) == pack([messages.Ping(1), message, messages.Ping(2)])


def many(count: int, item: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", count) + item * count


WIDE = ("x" * MAX_PART + "\U0001f600").encode()
TOO_LARGE = {
    "a text": b"\x94\x20\x14\xdb" + struct.pack(">I", len(WIDE)) + WIDE + b"\xca" + bytes(4),
    "fields of a log line": b"\x96\x20\x14\xa1x\x00\xa0\x81\xa1a" + many(2_000_000, b"\x90"),
    "what is attached": b"\x94\x1d\xa1h\xc0" + many(500_000, b"\x91\x00"),
    "inside what is attached": b"\x94\x1d\xa1h\xc0\x91\x95\x01\x00\x00\xc4\x00" + many(500_000, b"\x90"),
    "handlers": b"\x93\x14" + many(500_000, b"\x93\x01\xa1a\xa1b") + b"\x90",
    "a field that there is not": b"\x93\x05\x01" + many(2_000_000, b"\x90"),
    "a message of very many parts": b"\xdd" + struct.pack(">I", 2_000_000) + b"\x05" + b"\x01" * 1_999_999,
    "an unknown kind": b"\x93\xcc\xc8\x01" + many(2_000_000, b"\x90"),
}


@pytest.mark.parametrize("body", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_part_over_its_bound_ends_the_session(body: bytes) -> None:
    session = Session("kernel")
    session.receive(Session("plugin").hello())
    frame = struct.pack(">I", len(body) + 1) + b"\x91" + body
    with pytest.raises(ProtocolError, match=r"over the limit|parts|MK0215"):
        list(session.receive_gradually(frame))
    with pytest.raises(ProtocolError, match="closed"):
        session.receive_gradually(frame)


def test_frames_that_come_together_are_all_there() -> None:
    session = Session("kernel")
    session.receive(Session("plugin").hello())
    data = pack([messages.Ping(1)]) + pack([Emit("a", LARGE)]) + pack([messages.Ping(2)])
    found = [message for message in session.receive_gradually(data) if message is not None]
    assert found == [messages.Ping(1), Emit("a", LARGE), messages.Ping(2)]


MANY_MESSAGES = """
import resource, struct, sys
from microkernel.wire.messages import Done
from microkernel.wire.codec import encode
from microkernel.wire.session import Session
MESSAGES = {
    "numbers": encode(Done([1] * 65_536)),
    "handlers": b"\\x93\\x14\\xdc\\x40\\x00" + b"\\x93\\x01\\xa1a\\xa1b" * 16_384 + b"\\x90",
    "log": b"\\x96\\x20\\x14\\xa1x\\x00\\xa0\\x82" + 2 * (b"\\xa1%c\\xdc\\x04\\x00" + b"\\xc0" * 1024),
}
message = MESSAGES[sys.argv[1]].replace(b"%c", b"a", 1).replace(b"%c", b"b", 1)
count = min((15 << 20) // len(message), 4000)
body = b"\\xdd" + struct.pack(">I", count) + message * count
session = Session("kernel")
session.receive(Session("plugin").hello())
frame = struct.pack(">I", len(body)) + body
for at in range(0, len(frame) - 65536, 65536):
    session.receive_gradually(frame[at : at + 65536])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
found = sum(each is not None for each in session.receive_gradually(frame[len(frame) - (len(frame) % 65536 or 65536):]))
assert found == count, (found, count)
print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["numbers", "handlers", "log"])
def test_the_messages_of_a_frame_are_not_in_memory_all_at_once(kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", MANY_MESSAGES, kind], capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40  # MiB: the frame once more, and one message


def test_a_small_frame_is_decoded_as_a_whole() -> None:
    session = Session("kernel")
    session.receive(Session("plugin").hello())
    assert session.receive_gradually(pack([messages.Ping(1)] * 4096)) == [messages.Ping(1)] * 4096
    assert len(pack([messages.Ping(1)] * 4096)) < MAX_WHOLE
