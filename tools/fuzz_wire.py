"""Coverage-guided fuzzing of what reads bytes from workers: sessions, reply lanes, envelopes, payloads.

./run fuzz [-runs=N] [-max_total_time=SECONDS] [-seed=N] [CORPUS_FOLDER]

Whatever comes, it is messages or a ProtocolError (for payloads: a value or InvalidArguments). Everything else ends the
fuzzer, which writes the input to a file ``crash-...`` that reproduces it.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["microkernel.wire"]):
    from microkernel.errors import InvalidArguments, ProtocolError
    from microkernel.wire import codec, messages
    from microkernel.wire.session import ReplyReader, Session, pack

HELLO = Session("worker").hello()
TYPES = (int, str, list[int], dict[str, float], messages.Envelope, messages.Failure)


def fuzz_session(data: bytes) -> None:
    """As a stream that is cut where the first byte says, after a Hello or without one."""
    session = Session("kernel")
    with suppress(ProtocolError):
        if data[:1] < b"\xf0":
            session.receive(HELLO)
        place = data[0] if data else 0
        for part in (data[1:place], data[max(1, place) :]):
            for message in session.receive(part):
                codec.encode_message(message)  # what was decoded can be sent on


def fuzz_frame(data: bytes) -> None:
    """As the one message of a frame whose length and count are right."""
    session = Session("kernel")
    session.receive(HELLO)
    body = b"\xdd\x00\x00\x00\x01" + data
    with suppress(ProtocolError):
        session.receive(len(body).to_bytes(4, "big") + body)


def fuzz_lane(data: bytes) -> None:
    with suppress(ProtocolError):
        ReplyReader().receive(data)


def fuzz_payload(data: bytes) -> None:
    """As the payload of an event, for a handler's types."""
    for kind in TYPES:
        with suppress(InvalidArguments):
            codec.decode(data, kind)


TARGETS = (fuzz_session, fuzz_frame, fuzz_lane, fuzz_payload)


def one_input(data: bytes) -> None:
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def seeds() -> list[bytes]:
    """Well-formed inputs to begin with: what the fuzzer changes is more than noise then."""
    raw = codec.Raw(codec.encode({"a": [1, 2.5, None, "x"]}))
    failure = messages.Failure("PluginDied", "MK0214", {"a": 1})
    some = [
        messages.Hello(1, "worker"), messages.Call(1, "a.b", raw, raw, 1.0, 0, ["a"]),
        messages.Response(1, raw, failure),
        messages.Loaded([messages.Handler(1, "a.**", "x")], [messages.Method("m")]), messages.Emit("a.b", raw),
        messages.Rejected(1, failure), messages.Data(1, "set", "a.b", raw, 3), messages.Done([1, 2, 3]),
        messages.Log(20, "x", 1.0, "say", {"a": 1}), messages.Stopped(raw, [1, 2]), messages.SelfExit("x", 1),
        messages.Ask(1, "a", raw, 1.0),
    ]  # fmt: skip
    frames = [b"\x00\x80" + pack([message]) for message in some]
    bare = [b"\x01" + codec.encode_message(message) for message in some]
    return [*frames, *bare, b"\x02" + pack([messages.Response(1, raw)]), b"\x03" + bytes(raw)]


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
