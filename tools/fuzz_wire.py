"""Coverage-guided fuzzing of what reads bytes from workers: sessions, reply lanes, envelopes, payloads.

./run fuzz [-runs=N] [-max_total_time=SECONDS] [-seed=N] [CORPUS_FOLDER]

Whatever comes, it is messages or a ProtocolError (for payloads: a value or InvalidArguments). Everything else ends the
fuzzer, which writes the input to a file ``crash-...`` that reproduces it.
"""

from __future__ import annotations

import sys
from contextlib import suppress

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


def main() -> None:
    seeds = [pack([messages.Ping(1)]), HELLO, pack([messages.Emit("a.b", messages.EMPTY_MAP)])]
    for number, seed in enumerate(seeds):
        one_input(bytes([number]) + seed)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
