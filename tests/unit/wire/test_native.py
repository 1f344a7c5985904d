"""The native core against the Python code that it stands for: the same bytes, the same messages, or nothing."""

from __future__ import annotations

import gc
import random
import resource
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microkernel.errors import ProtocolError
from microkernel.wire import frames, messages, native
from microkernel.wire.codec import Raw, encode, encode_message
from microkernel.wire.messages import Attachment, Envelope, Failure, Response
from microkernel.wire.session import ReplyReader, pack

core = pytest.importorskip("microkernel_native")

IDS = st.integers(0, 2**63 - 1) | st.integers(0, 300)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)


def read_by_python(datagram: bytes) -> list[Response] | None:
    reader = ReplyReader()
    try:
        return reader.receive(datagram) if not reader.is_partial else None
    except ProtocolError:
        return None


def check_read(datagram: bytes) -> bool:
    """Check that the native core reads nothing else than Python does. Return whether it read it."""
    found = core.read_reply(datagram)
    if found is None:
        return False
    number, value = found
    assert read_by_python(datagram) == [Response(number, Raw(value))]
    return True


@given(IDS, VALUES, st.booleans())
def test_a_reply_is_packed_as_python_does(number: int, value: Any, emitted: bool) -> None:
    data = encode(value)
    assert core.pack_reply(number, data, emitted) == pack([Response(number, Raw(data), emitted=emitted)])


@given(IDS, VALUES)
def test_a_plain_reply_is_read_and_any_other_is_left_to_python(number: int, value: Any) -> None:
    read = check_read(pack([Response(number, Raw(encode(value)))]))
    assert read or value or isinstance(value, list | dict)  # small values are always read
    for other in (
        Response(number, Raw(encode(value)), emitted=True),
        Response(number, Raw(encode(value)), elsewhere=True),
        Response(number, Raw(encode(value)), Failure("CallTimeout", "MK0606")),
        Response(number, Raw(encode(value)), shares=(Attachment(1, data=b"x"),)),
    ):
        assert core.read_reply(pack([other])) is None
    assert core.read_reply(pack([Response(number), Response(number)])) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_read_as_python_does_or_not_at_all(data: bytes) -> None:
    check_read(data)
    check_read(len(data).to_bytes(4, "big") + data)
    check_read(len(data).to_bytes(4, "big") + b"\x91\x97\x03" + data)


def test_mutated_and_truncated_replies_are_read_as_python_does_or_not_at_all() -> None:
    random_ = random.Random(14)
    whole = [
        pack([Response(random_.getrandbits(random_.randrange(1, 63)), Raw(encode(value)))])
        for value in (None, True, 7, -7, 2**40, 1.5, "text", "text" * 100, b"bytes" * 60, b"x" * 300, [], {}, [1, 2])
        for _ in range(20)
    ]
    read = 0
    for frame in whole:
        read += check_read(frame)
        for size in range(len(frame)):
            check_read(frame[:size])
            check_read((size - 4).to_bytes(4, "big") + frame[4:size] if size >= 4 else frame[:size])
        for _ in range(200):
            mutated = bytearray(frame)
            for _ in range(random_.randrange(1, 4)):
                mutated[random_.randrange(len(mutated))] = random_.randrange(256)
            check_read(bytes(mutated))
        check_read(frame + b"\x00")
    assert read > len(whole) / 2


def test_what_does_not_fit_a_datagram_is_left_to_python() -> None:
    longest = next(size for size in range(frames.DATAGRAM, 0, -1) if core.pack_reply(1, bytes(size), False) is not None)
    assert longest > frames.DATAGRAM - 32
    for size in range(longest - 20, longest + 1):
        packed = core.pack_reply(2**63 - 1, bytes(size), False)
        assert packed is None or len(packed) <= frames.DATAGRAM
    assert core.read_reply(bytes(frames.DATAGRAM + 1)) is None


@given(IDS, TEXTS, TEXTS, st.floats(allow_nan=False), VALUES)
def test_an_event_is_packed_as_python_does(number: int, topic: str, source: str, time: float, value: Any) -> None:
    data = Raw(encode(value))
    assert core.pack_event(number, topic, source, time, data) == encode_message(
        Envelope(number, topic, source, time, data)
    )


def test_an_event_with_long_texts_is_left_to_python() -> None:
    data = Raw(encode(None))
    assert core.pack_event(1, "x" * 65_536, "a", 0.0, data) is None
    assert core.pack_event(1, "x" * 65_535, "a", 0.0, data) == encode_message(Envelope(1, "x" * 65_535, "a", 0.0, data))
    assert core.pack_event(1, "a", "b", 0.0, Raw(b"")) == encode_message(Envelope(1, "a", "b", 0.0, Raw(b"")))


def test_wrong_arguments_are_errors() -> None:
    for function, args in (
        (core.read_reply, (None,)), (core.read_reply, ("text",)), (core.pack_reply, (1, None, False)),
        (core.pack_reply, (-1, b"", False)), (core.pack_reply, (2**64, b"", False)), (core.send, (1, None)),
        (core.pack_event, (1, None, "a", 0.0, b"")), (core.pack_event, (1, "a", "b", "c", b"")),
        (core.pack_event, (1, "\ud800", "b", 0.0, b"")), (core.MessageRunner, (1,)),
        (core.EventPath, (int, int, int, int, int, 1, 1)), (core.CallPath, (Response,) * 7 + (1.0,)),
    ):  # fmt: skip
        with pytest.raises((TypeError, OverflowError, AttributeError, UnicodeEncodeError)):
            function(*args)


def test_memory_stays_flat() -> None:
    data, frame = encode(b"x" * 100), pack([Response(70_000, Raw(encode(b"x" * 100)))])

    def work(count: int) -> None:
        for number in range(count):
            core.read_reply(frame)
            core.read_reply(data)
            core.pack_reply(number, data, False)
            core.pack_event(number, "a.b", "c", 1.0, data)

    work(1_000)
    gc.collect()
    blocks, used = sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(250_000)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 4_096


def state_of(code: str = "", **env: str) -> str:
    code = f"{code}\nfrom microkernel.wire import native; print(native.STATE, native.core is None, native.make('send'))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_it_is_used_unless_it_is_turned_off_or_does_not_fit() -> None:
    assert state_of().startswith("used False")
    assert state_of(MK_PURE="0").startswith("used False")
    assert state_of(MK_PURE="1") == "off True None"
    assert state_of("import microkernel_native; microkernel_native.INTERFACE += 1") == "other True None"
    assert state_of("import sys; sys.modules['microkernel_native'] = None") == "missing True None"


def test_classes_without_the_expected_slots_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("fake")
    vars(fake)["Path"] = core.EventPath
    monkeypatch.setattr(native, "core", fake)
    assert native.make("Path", int, int, int, int, int, 1, 1) is None


def test_messages_have_slots_where_the_native_core_reads_them() -> None:
    from microkernel.embedder.calls import NATIVE_CALLS
    from microkernel.kernel.messaging.event_bus import NATIVE_EVENTS
    from microkernel.sdk.runtime.dispatcher import NATIVE_RUNNER

    expected = [NATIVE_CALLS, NATIVE_EVENTS, NATIVE_RUNNER] if native.core is not None else []
    assert None not in expected
    assert messages.PROTOCOL == 1  # the frames that it writes are of this version
