"""Frames, sessions and the codec: any bytes, split anywhere, are messages or a ProtocolError."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microkernel.errors import InvalidArguments, NotPlainData, PayloadTooLarge, ProtocolError
from microkernel.wire import codec, frames, messages
from microkernel.wire.session import Session, pack, refusal

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
MESSAGES = st.lists(
    st.builds(messages.Ping, st.integers(0, 2**63 - 1))
    | st.builds(messages.Emit, st.just("a.b"), st.builds(lambda v: codec.Raw(codec.encode(v)), PLAIN))
    | st.builds(messages.Log, st.integers(0, 50), st.text(), st.floats(allow_nan=False)),
    max_size=8,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def seen(received: list[messages.Message]) -> list[bytes]:
    return [codec.encode_message(message) for message in received]


@given(PLAIN)
def test_plain_data_is_unchanged_by_a_round_trip(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


@given(MESSAGES, st.lists(st.integers(0, 10_000), max_size=6))
def test_a_stream_may_be_cut_anywhere(batch: list[messages.Message], places: list[int]) -> None:
    session, received = Session("kernel"), []
    for part in cut(Session("worker").hello() + pack(batch), places):
        received += session.receive(part)
    assert seen(received) == seen(batch)
    assert session.peer is not None
    assert session.peer.role == "worker"


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_bytes_that_are_not_messages_are_refused_or_incomplete(parts: list[bytes]) -> None:
    session = Session("kernel")
    for part in parts:
        try:
            session.receive(part)
        except ProtocolError:
            with pytest.raises(ProtocolError, match="MK0215"):
                session.receive(Session("worker").hello())  # it is closed for good
            return


@given(MESSAGES, st.integers(0, 100_000), st.integers(0, 255))
def test_one_wrong_byte_raises_nothing_but_protocol_error(batch: list[messages.Message], place: int, byte: int) -> None:
    data = bytearray(Session("worker").hello() + pack(batch))
    data[place % len(data)] = byte
    with suppress(ProtocolError):
        Session("kernel").receive(bytes(data))


def test_a_length_over_the_limit_is_refused_before_memory_is_used() -> None:
    reader = frames.Reader(limit=1000)
    with pytest.raises(ProtocolError, match="over the limit of 1,000"):
        reader.feed(b"\xff\xff\xff\xff\xdd\x00\x00\x00\x01")
    assert len(reader._kept) <= frames.HEAD


def test_a_count_over_the_limit_is_refused() -> None:
    body = b"\xdd" + (frames.MAX_BATCH + 1).to_bytes(4, "big") + b"\xc0" * (frames.MAX_BATCH + 1)
    with pytest.raises(ProtocolError, match="messages, over the limit"):
        frames.Reader().feed(len(body).to_bytes(4, "big") + body)


def test_unbounded_nesting_is_refused() -> None:
    deep = b"\x91" * 200_000
    body = b"\xdd\x00\x00\x00\x01\x93\x1d\xa3a.b" + deep
    session = Session("kernel")
    session.receive(Session("worker").hello())
    with pytest.raises(ProtocolError, match="MK0215"):
        session.receive(len(body).to_bytes(4, "big") + body)


@given(MESSAGES)
def test_datagrams_make_up_the_frame(batch: list[messages.Message]) -> None:
    session = Session("kernel")
    session.receive(Session("worker").hello())
    batch = batch * 40
    parts = frames.datagrams(pack(batch))
    received = [message for part in parts for message in session.receive(part)]
    assert max(map(len, parts)) <= frames.DATAGRAM
    assert seen(received) == seen(batch)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_a_frame_of_any_count_is_read_up_to_the_limit(count: int) -> None:
    session = Session("kernel")
    session.receive(Session("worker").hello())
    batch = [messages.Ping(1)] * count
    if count <= frames.MAX_BATCH:
        assert len(session.receive(pack(batch))) == count
    else:
        with pytest.raises(ProtocolError, match="messages, over the limit"):
            session.receive(pack(batch))


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x80", b"\xa1a", b"\xde\x00\x00"])
def test_a_frame_that_does_not_start_with_an_array_is_refused_at_once(body: bytes) -> None:
    """Also if more bytes are announced than have arrived."""
    with pytest.raises(ProtocolError, match="not a frame of this protocol"):
        frames.Reader().feed((len(body) * 1000).to_bytes(4, "big") + body)


@pytest.mark.parametrize(
    ("first", "id"),
    [
        (pack([messages.Ping(1)]), "MK0216"),
        (pack([messages.Hello(99, "worker")]), "MK0216"),
        (refusal(ProtocolError("MK0701", reason="no")), "MK0701"),
        (b"GET / HTTP/1.1\r\n\r\n", "MK0215"),
    ],
)
def test_an_unknown_peer_and_another_version_are_refused_readably(first: bytes, id: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        Session("kernel").receive(first)
    assert refused.value.id == id
    assert str(refused.value)


def test_an_object_that_is_not_plain_data_is_named_by_its_path() -> None:
    with pytest.raises(NotPlainData) as refused:
        codec.encode({"orders": [1, {"owner": object()}]})
    assert refused.value.path == ".orders[1].owner"


def test_a_payload_over_the_limit() -> None:
    with pytest.raises(PayloadTooLarge):
        codec.encode(b"x" * codec.MAX_PAYLOAD)
    assert codec.encode(b"x" * (codec.MAX_PAYLOAD - 5))


def test_a_value_that_does_not_fit_its_type_is_named_by_its_path() -> None:
    with pytest.raises(InvalidArguments, match=r"\$\[1\]"):
        codec.decode(codec.encode([1, "x"]), list[int])
