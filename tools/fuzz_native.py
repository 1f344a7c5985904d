"""Random input for the native core, built with the address sanitizer: ``./run fuzz native [--seconds 120] [--seed 1]``.

Feeds frames, whole, truncated and mutated, to both parsers, and messages of every kind to the runner of handlers. The
sanitizer ends the process at the first access outside of an object; a difference from the Python code raises.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_BUILT = "MK_FUZZ_NATIVE"


def build(folder: Path) -> None:
    """Build the extension with the sanitizer into this folder."""
    env = {**os.environ, "CFLAGS": "-fsanitize=address -fno-omit-frame-pointer -g -O1"}
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "microkernel_native.pyx"):
        (source / name).write_bytes((ROOT / "native" / name).read_bytes())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--target"]
    subprocess.run([*command, str(folder / "built"), str(source)], env=env, check=True)


def run_sanitized(args: list[str]) -> int:
    """Run this module again with the sanitized extension."""
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        env = {
            **os.environ,
            _BUILT: str(Path(folder) / "built"),
            "LD_PRELOAD": library.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter itself keeps what it allocates
            "PYTHONMALLOC": "malloc",  # each object by itself, or the sanitizer would not see where it ends
            "PYTHONPATH": f"{Path(folder) / 'built'}:{ROOT / 'src'}",
        }
        return subprocess.run(
            [sys.executable, "-m", "tools.fuzz_native", *args], env=env, cwd=ROOT, check=False
        ).returncode


class Fuzzer:
    """One round after another, from one seed."""

    def __init__(self, seed: int) -> None:
        import microkernel_native

        from microkernel.wire.codec import Raw, encode

        self.core: Any = microkernel_native
        self.random = random.Random(seed)
        self.raw, self.encode = Raw, encode

    def value(self, depth: int = 0) -> Any:
        chosen = self.random.randrange(9 if depth < 3 else 7)
        size = self.random.choice((0, 1, 15, 16, 31, 32, 255, 256, 300, 5_000, 65_500, 65_536))
        plain = (None, True, self.random.getrandbits(self.random.randrange(1, 64)), -self.random.getrandbits(40), 1.5)
        if chosen < len(plain):
            return plain[chosen]
        if chosen < 7:
            return "é" * (size // 2) if chosen == 5 else bytes(size)
        inner = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return inner if chosen == 7 else {str(i): each for i, each in enumerate(inner)}

    def mutated(self, frame: bytes) -> bytes:
        changed = bytearray(frame)
        for _ in range(self.random.randrange(4)):
            if changed:
                changed[self.random.randrange(min(len(changed), 24))] = self.random.randrange(256)
        if self.random.random() < 0.3:
            del changed[self.random.randrange(len(changed) + 1) :]
        if self.random.random() < 0.5 and len(changed) >= 4:
            changed[:4] = (len(changed) - 4).to_bytes(4, "big")
        return bytes(changed)

    def replies(self) -> None:
        from microkernel.wire.messages import Response
        from microkernel.wire.session import ReplyReader, pack

        number, data = self.random.getrandbits(self.random.randrange(1, 63)), self.encode(self.value())
        packed = self.core.pack_reply(number, data, False)
        if packed is not None and packed != pack([Response(number, self.raw(data))]):
            raise AssertionError(f"packed differently: {packed!r}")
        for _ in range(20):
            datagram = self.mutated(packed or data)
            found = self.core.read_reply(datagram)
            if found and ReplyReader().receive(datagram) != [Response(found[0], self.raw(found[1]))]:
                raise AssertionError(f"read differently: {datagram!r}")

    def events(self) -> None:
        from microkernel.wire.codec import encode_message
        from microkernel.wire.messages import Envelope

        topic, source = ("t" * self.random.choice((1, 31, 32, 255, 256, 65_535, 65_536)) for _ in range(2))
        data, number = self.raw(self.encode(self.value())), self.random.getrandbits(63)
        packed = self.core.pack_event(number, topic, source, 1.5, data)
        if packed is not None and packed != encode_message(Envelope(number, topic, source, 1.5, data)):
            raise AssertionError("packed differently")

    def handlers(self) -> None:
        from microkernel.sdk.runtime.dispatcher import NATIVE_RUNNER
        from microkernel.wire import messages

        dispatcher = _Dispatcher()
        batch: list[Any] = []
        for _ in range(self.random.randrange(8)):
            event, value = self.raw(self.encode([1, "a.b", "c", 1.5, {"number": self.value()}])), self.value()
            batch += [
                messages.Deliver(self.random.getrandbits(60), self.random.randrange(3), 1, event),
                messages.Deliver(1, 1, 1, self.raw(self.mutated(bytes(event)))),
                messages.Invoke(1, "echo", self.raw(self.encode([value])), self.raw(b"\x80"), 1e12, lane=0),
                messages.Invoke(
                    2, "echo", self.raw(self.mutated(self.encode([value]))), self.raw(b"\x80"), 1e12, lane=9
                ),
                messages.Invoke(3, "fail", self.raw(b"\x90"), self.raw(b"\x80"), 1e12, lane=-1),
                messages.Invoke(4, "none", self.raw(b""), self.raw(b""), 0.0),
                messages.Ping(1),
                None,
            ]
        self.random.shuffle(batch)
        NATIVE_RUNNER.run(dispatcher, batch)


class _Dispatcher:
    """What the runner needs of a Dispatcher; sends its replies to a socket that nobody reads."""

    def __init__(self) -> None:
        import socket

        from microkernel.sdk.binding.handlers import Handlers
        from microkernel.sdk.runtime.executor import InlineExecutor

        self.stop = None
        self.executor = InlineExecutor()
        self._last_receive = time.monotonic() + 1e6
        self._done: list[int] = []
        self._calls: dict[int, Any] = {}
        self._sharing = self
        self.ended = ()
        self._handlers = Handlers()
        self._channel = self
        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lane_descriptors = (self._ends[0].fileno(),)
        self._has_emitted = True
        self._handlers.add("a.b", _count, once=False, overflow="block", board=False)
        self._handlers.expose(_echo, "echo")
        self._handlers.expose(_fail, "fail")

    def handle(self, message: Any) -> None:
        """Does nothing: the Python code would run it."""

    def settle(self, message: Any, value: Any, error: BaseException | None) -> None:
        """Does nothing: the Python code would finish it."""

    def answer(self, message: Any, payload: bytes) -> None:
        """Does nothing: the Python code would send it."""

    def flush(self) -> None:
        self._done = []


def _count(number: int) -> None:
    """A handler whose parameter not every event fits."""


def _echo(value: Any) -> Any:
    return value


def _fail() -> None:
    raise ValueError


def fuzz(seconds: float, seed: int) -> None:
    from microkernel.sdk.process_copies import is_instance

    is_instance()
    fuzzer, rounds = Fuzzer(seed), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        fuzzer.replies()
        fuzzer.events()
        fuzzer.handlers()
        rounds += 1
    print(f"✓ {rounds:,} rounds in {seconds:g} s, seed {seed}, with {fuzzer.core.__file__}")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run fuzz native")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if _BUILT not in os.environ:
        sys.exit(run_sanitized(["--seconds", str(options.seconds), "--seed", str(options.seed)]))
    fuzz(options.seconds, options.seed)


if __name__ == "__main__":
    main()
