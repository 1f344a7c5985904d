"""The memory to decode a frame is bounded by its length: nothing in it becomes many times as large."""

from __future__ import annotations

import subprocess
import sys

import pytest

ATTEMPT = """
import resource, sys, typing
from microkernel.errors import ProtocolError
from microkernel.wire import frames, messages, session
from microkernel.wire.codec import Raw, encode_message

COUNT = 1_000_000
SAMPLES = {
    int: 1, str: "x", float: 1.0, bool: True, Raw: Raw(b"\\xc0"), messages.Method: messages.Method("m"),
    messages.Handler: messages.Handler(1, "a", "b"), messages.Failure: messages.Failure(),
}

def sample(hint):
    if hint in SAMPLES:
        return SAMPLES[hint]
    if typing.get_origin(hint) in (list, tuple, dict):
        return typing.get_origin(hint)()
    return None

def bodies(item):
    array = b"\\xdd" + COUNT.to_bytes(4, "big") + item * COUNT
    yield array
    yield b"\\x91" + array  # a list that holds it
    yield b"\\x81\\xa1a" + array  # a map that holds it
    for index in range(9):  # a record that holds it
        yield b"\\x99" + b"".join(array if i == index else sample for i, sample in enumerate(RECORD))

RECORD = [b"\\x01", b"\\xa1x", b"\\xa1x", b"\\xc2", b"\\xa1x", b"\\xc2", b"\\xc0", b"\\xc0", b"\\xc0"]

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def attempt(message):
    session_ = session.Session("kernel", "b")
    session_.receive(session.Session("instance", "a").hello())
    try:
        session_.receive(frames.head(len(message) + 1) + b"\\x91" + message)
    except ProtocolError:
        return  # refused is as good as taken, if it was cheap

before = peak()
for kind in typing.get_args(messages.Any_):
    if kind is messages.Load:
        continue  # only the kernel sends it
    hints = typing.get_type_hints(kind)
    filled = [encode_message(sample(hints[name])) for name in kind.__struct_fields__]
    head = bytes([0x90 | (len(filled) + 1), kind.__struct_config__.tag])
    for index in range(len(filled)):
        for body in bodies(bytes.fromhex(sys.argv[1])):
            attempt(head + b"".join([*filled[:index], body, *filled[index + 1 :]]))
print(peak() - before)
"""


@pytest.mark.parametrize("item", ["90", "80", "01"], ids=["lists", "maps", "numbers"])
def test_a_long_frame_takes_no_more_memory_than_its_bytes(item: str) -> None:
    done = subprocess.run([sys.executable, "-c", ATTEMPT, item], capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20  # MiB: the frame and its copies, of 1 MB each
