"""The wire and sdk packages with a wasm guest's codec, in a Python without msgspec."""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GUEST = """
import sys

class NoMsgspec:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "msgspec":
            raise ImportError(f"a wasm guest has no {name}")

sys.meta_path.insert(0, NoMsgspec())
import microkernel.guest.codec as codec
sys.modules["microkernel.wire.codec"] = codec
import microkernel.wire
microkernel.wire.codec = codec
"""
EVERY_MESSAGE = """
import pkgutil, typing
import microkernel.sdk.runtime.runtime
from microkernel.wire import messages, session

for module in pkgutil.iter_modules(microkernel.wire.__path__):
    __import__(f"microkernel.wire.{module.name}")
assert not any(name.startswith(("msgspec", "microkernel.kernel")) for name in sys.modules)

handler, method = messages.Handler(1, "a.*", "h"), messages.Method("m", schema=codec.Raw(b"\\x80"))
failure = messages.Failure("kind", "MK0600", {"a": 1}, hops=["x"])
GIVEN = {
    int: 7, str: "text", float: 1.5, bool: True, codec.Raw: codec.Raw(b"\\x93\\x01\\x02\\xa1x"), list[str]: ["a"],
    list[int]: [1, 2], list[str] | None: ["b"], messages.Failure: failure,
    typing.get_type_hints(messages.Failure)["fields"]: {"k": [None, "x", 1], "one": 2.5},
    dict[str, bytes]: {"p": b"source"}, dict[str, str]: {"/srv": "it is not there"},
    messages.Failure | None: failure, list[messages.Handler]: [handler], list[messages.Method]: [method],
    messages.Handler: handler, messages.Method: method,
    tuple[messages.Attachment, ...]: (messages.Attachment(9, 1, 2), messages.Attachment(1, data=b"x")),
}
kinds = typing.get_args(messages.Any_)
sent = [kind(*[GIVEN[hint] for name, hint in typing.get_type_hints(kind).items() if name in kind.__struct_fields__])
        for kind in kinds if kind not in (messages.Hello, messages.Refuse)]
ours, theirs = session.Session("instance", "a"), session.Session("kernel", "b")
assert theirs.receive(ours.hello()) == [] and theirs.peer.role == "instance"
data = session.pack(sent)
assert theirs.receive(data) == sent and len(sent) == len(kinds) - 2
open(sys.argv[1], "wb").write(data)
"""


def run_as_guest(code: str, *args: str) -> str:
    pure = {**os.environ, "MK_PURE": "1"}  # a guest has no native core
    command = [sys.executable, "-c", GUEST + code, *args]
    done = subprocess.run(command, env=pure, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_message_round_trips_between_a_guest_and_the_kernel(tmp_path: Path) -> None:
    """The bytes are equal, so neither end can tell which codec the other uses."""
    from microkernel.wire import frames, messages
    from microkernel.wire.codec import decode

    run_as_guest(EVERY_MESSAGE, str(tmp_path / "frame"))
    from microkernel.wire.session import pack

    data = (tmp_path / "frame").read_bytes()
    (body,) = frames.Reader().feed(data)
    received = decode(body, list[messages.Any_])
    kinds = {*typing.get_args(messages.Any_)} - {messages.Hello, messages.Refuse}
    assert {type(message) for message in received} == kinds
    assert pack(received) == data


TYPED = "thread- and (hint or says or returns or fit or signature or service)"


@pytest.mark.parametrize("tests", [["test_frames.py"], ["../../contract/test_hosts.py", "-k", TYPED]])
def test_other_tests_pass_with_the_guests_codec(tests: list[str]) -> None:
    """Sessions; and plugins at the level ``thread``, where both ends then use the guest's codec."""
    file, *selection = tests
    code = "import pytest\nsys.exit(pytest.main(sys.argv[1:]))"
    said = run_as_guest(code, "-q", "-p", "no:cacheprovider", str((HERE / file).resolve()), *selection)
    assert " passed" in said
