"""A worker that speaks for itself: it ends, or is ignored; nobody else is touched."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from microkernel.errors import CallFailed, PluginDied
from tests.security.attacks.support import Plugins, eventually, state_is

HOSTILE = """
import socket, struct
from microkernel.wire import frames, messages
from microkernel.wire.codec import Raw, encode, encode_message
from microkernel.wire.messages import *
from microkernel.wire.session import pack
UP = 4
up = socket.socket(fileno=os.dup(UP))
def send(data): up.send(data)
def say(*what): send(pack(what))
def array(n): return b"\\xdd" + struct.pack(">I", n)
def body(data): return struct.pack(">I", len(data)) + data
def flood(message, seconds=1.0):
    data, until = pack([message] * 50), time.monotonic() + seconds
    while time.monotonic() < until: send(data)
KINDS = {
    # not a frame, or not a message: it ends
    "not_msgpack": lambda: say(Emit("attack.odd", Raw(b"\\xc1"))),
    "garbage": lambda: send(os.urandom(999)),
    "text": lambda: send(b"GET / HTTP/1.1\\r\\n\\r\\n"),
    "huge_length": lambda: send(struct.pack(">I", 2**32 - 1) + array(1) + b"x" * 100),
    "huge_count": lambda: send(body(array(2**32 - 1))),
    "many": lambda: send(body(array(5000) + b"\\x91\\x05" * 5000)),
    "short_count": lambda: send(body(array(3) + b"\\x92\\x05\\x01")),
    "unknown_tag": lambda: send(body(array(1) + b"\\x92\\x7f\\x01")),
    "wrong_type": lambda: send(body(array(1) + b"\\x92\\x02\\xa1x")),
    "deep_fields": lambda: send(body(
        array(1) + b"\\x96\\x20\\x01\\xa1x\\xcb" + b"\\0" * 8 + b"\\xa1x\\x81\\xa1a" + b"\\x91" * 60000)),
    "deep_raw": lambda: send(body(array(1) + b"\\x93\\x1d\\xa8attack.x" + b"\\x91" * 60000)),
    "bad_utf8": lambda: send(body(array(1) + b"\\x93\\x1d\\xa2\\xff\\xfe\\xc0")),
    "truncated_raw": lambda: send(body(array(1) + b"\\x93\\x1d\\xa1x\\xdc\\xff\\xff")),
    "empty": lambda: send(b""),
    "long_datagram": lambda: say(SelfExit("x" * 100_000)),
    "endless": lambda: [send(struct.pack(">I", 16 << 20) + array(1))] + [send(b"x" * 60000) for _ in range(400)],
}
IGNORED = {
    # a message, but not its business: it goes on
    "forged_reply": lambda: [say(Response(id, Raw(encode("forged")))) for id in range(1, 3000)],
    "forged_failure": lambda: [
        say(Response(id, failure=Failure("PluginDied", "MK0214", {"target": 1}))) for id in range(1, 3000)],
    "done": lambda: say(Done(list(range(-5, 5000)))),
    "rejected": lambda: [say(Rejected(seq, Failure(type="X", message="forged"))) for seq in range(2000, 3000)],
    "kernel_topic": lambda: say(Emit("kernel.state", Raw(encode({"plugin": "healthy", "state": "failed"})))),
    "bad_topic": lambda: say(Emit("..", Raw(encode({}))), Emit("a b", Raw(encode({}))), Emit("", Raw(encode({})))),
    "no_map": lambda: say(Emit("attack.odd", Raw(encode([1, 2]))), Emit("attack.odd", Raw(encode(None)))),
    "loaded": lambda: say(Loaded([Handler(1, "**", "x")], [Method("answer")])),
    "life": lambda: say(
        Started(), Stopped(), Failed("start", Failure("PluginLoadError", "MK0603", {"size": "x", "limit": {}}))),
    "down": lambda: say(Stop(), Start(), Deliver(1, 1, 1, Raw(encode({}))), Credit(10**9), Refuse("MK0001")),
    "hello": lambda: say(Hello(1, "kernel"), Hello(99, "x")),
    "control": lambda: say(Call(7, "kernel.stop", Raw(encode(["healthy"])), deadline=1e18), Call(8, "kernel.shutdown")),
    "odd_call": lambda: say(Call(9, "healthy.answer", Raw(encode(5)), Raw(encode(5)), float("nan"), 0, ["a"] * 1000)),
    "odd_call2": lambda: say(Call(9, "healthy.answer", Raw(b"\\xc1"), Raw(b"\\xc1"), float("inf"), 2**60)),
    "far_ask": lambda: say(
        Ask(10, "attack.q", Raw(encode({})), float("inf")), Ask(11, "q", Raw(encode({})), float("nan"))),
    "odd_data": lambda: say(
        Data(12, "eat", "healthy.x"), Data(13, "set", "a b", Raw(encode(1))), Data(14, "set", "h.x", Raw(b"\\xc1"))),
    "odd_log": lambda: say(
        Log(10**12, "{0} {x!r:>99999999} %s %n", float("nan"), "odd", {"x": [1]}), Log(-5, "x", float("inf"))),
    "odd_handler": lambda: say(
        Subscribe(15, Handler(-1, "attack.**", "x", True, "nonsense", True)), Subscribe(16, Handler(1, "a..b", "y"))),
    "odd_method": lambda: say(Expose(17, Method("../../x", "x" * 1000, "y", {"a": [1] * 100}))),
    "leaving": lambda: say(SelfExit("x" * 1000)),
    "cancel": lambda: [say(Cancel(id)) for id in range(-10, 3000)],
    "ping": lambda: say(*[Ping(2**60 + n) for n in range(1000)]),
}
FLOODS = {
    "pings": lambda: flood(Ping(1)),
    "asks": lambda: flood(Data(1, "get", "large.value")),
    "life_flood": lambda: flood(Started()),
    "logs": lambda: flood(Log(20, "x" * 1000, 0.0)),
    "refused": lambda: flood(Emit("kernel.x", Raw(encode({})))),
    "methods": lambda: [say(*[Expose(n * 50 + i, Method(f"m{n * 50 + i}")) for i in range(50)]) for n in range(400)],
    "handlers": lambda: [
        say(*[Subscribe(n, Handler(n + 10, "a.b", f"h{n}")) for n in range(first, first + 50)])
        for first in range(0, 20_000, 50)],
}
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @expose
    def attack(self, how: str):
        {**KINDS, **IGNORED, **FLOODS}[how]()
        if how in KINDS: time.sleep(1000)
        return how
"""
ENDS = [
    "garbage", "text", "huge_length", "huge_count", "many", "short_count", "unknown_tag", "wrong_type", "deep_fields",
    "deep_raw", "bad_utf8", "truncated_raw", "not_msgpack", "empty", "endless",
    "long_datagram",
]  # fmt: skip
IGNORED = [
    "forged_reply", "forged_failure", "done", "rejected", "kernel_topic", "bad_topic", "no_map",
    "loaded", "life", "down", "hello", "control", "odd_call", "odd_call2", "far_ask", "odd_data", "odd_log",
    "odd_handler", "odd_method", "cancel", "ping",
]  # fmt: skip
FLOODS = ["pings", "asks", "life_flood", "logs", "refused", "methods", "handlers"]
ALWAYS = {"intensity": 1000, "backoff": 0.01, "backoff_max": 0.02}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def no_mistakes(caplog: pytest.LogCaptureFixture) -> None:
    assert not [r.getMessage() + str(r.exc_info) for r in caplog.records if "MK0699" in r.getMessage()]


def test_malformed_message_ends_the_worker(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    plugins.add("bad", HOSTILE, supervision=ALWAYS)
    plugins.healthy()
    with plugins.kernel() as kernel:
        for how in ENDS:
            generation = kernel.info("bad").generation
            with pytest.raises(PluginDied, match="MK0215"):
                kernel.call("bad.attack", how, timeout=60)
            eventually(lambda g=generation: kernel.info("bad").generation > g, f"{how} is a death")
            state_is(kernel, "bad", "active")
            assert kernel.call("healthy.answer") == 42
            assert kernel.info("healthy").generation == 1
        no_mistakes(caplog)


def test_forged_done_does_not_complete_a_call(plugins: Plugins) -> None:
    """The caller gets the error of the crash, whatever the worker reported about the call before."""
    plugins.add("liar", """
        from microkernel.wire.messages import Done, Rejected, Failure
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def lie(self):
                self.api._instance._channel.send(Done(list(range(5000))))
                for seq in range(5000): self.api._instance._channel.send(Rejected(seq, Failure()))
                os.kill(os.getpid(), signal.SIGKILL)
    """)  # fmt: skip
    with plugins.kernel() as kernel, pytest.raises(PluginDied):
        kernel.call("liar.lie", timeout=50)


def test_worker_that_announces_its_exit_is_ended_soon(plugins: Plugins) -> None:
    plugins.add("bad", HOSTILE, supervision=ALWAYS, limits={"kill_grace": 0.1})
    with plugins.kernel() as kernel:
        kernel.call("bad.attack", "leaving", timeout=50)
        eventually(lambda: kernel.info("bad").generation == 2, "it is ended, and comes back")


def test_forged_and_misdirected_messages_are_ignored(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    plugins.add("bad", HOSTILE, supervision=ALWAYS)
    plugins.healthy()
    plugins.add("caller", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def wait(self, gate: str):
                return self.api.call("waited.wait", gate, timeout=60)
    """)  # fmt: skip
    plugins.add("waited", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def wait(self, gate: str):
                while not os.path.exists(gate): time.sleep(0.01)
                return "true"
    """)  # fmt: skip
    gate = plugins.folder.parent / "gate"
    with plugins.kernel() as kernel:
        answers: list[str] = []
        waiting = threading.Thread(target=lambda: answers.append(kernel.call("caller.wait", str(gate), timeout=60)))
        waiting.start()
        eventually(lambda: kernel.info("waited").waiting == 1, "a call is under way that nobody else may answer")
        states: list[str] = []
        kernel.on("kernel.state", lambda plugin, state: states.append(f"{plugin} {state}"))
        for how in IGNORED:
            with suppress(PluginDied, CallFailed):  # a forged answer to its own call is its own affair
                assert kernel.call("bad.attack", how, timeout=60) in (how, "forged")
            assert kernel.call("healthy.answer", timeout=10) == 42, how
            kernel.emit("attack.after")
        gate.touch()
        waiting.join(30)
        assert answers == ["true"]
        assert not [state for state in states if state.startswith(("healthy", "waited", "caller"))]
        assert [kernel.info(name).generation for name in ("healthy", "waited", "caller")] == [1, 1, 1]
        assert kernel.core.reactor._thread.is_alive()
        no_mistakes(caplog)
        kernel.kill("bad")


@pytest.mark.parametrize("how", FLOODS)
def test_floods_do_not_delay_others_or_grow_memory(
    plugins: Plugins, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The kernel answers others all the time, and does not keep what it is flooded with."""
    caplog.set_level("CRITICAL")
    plugins.add("bad", HOSTILE, supervision=ALWAYS)
    plugins.healthy()
    with plugins.kernel() as kernel:
        kernel.set_data("large.value", b"x" * (1 << 20))
        before = resident()

        def attack() -> None:
            try:
                kernel.call("bad.attack", how, timeout=30)
            except Exception:
                return  # it may be ended for it

        attacking = threading.Thread(target=attack)
        attacking.start()
        slowest, count = 0.0, 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            began = time.monotonic()
            assert kernel.call("healthy.answer", timeout=30) == 42
            slowest, count = max(slowest, time.monotonic() - began), count + 1
        grown = (resident() - before) >> 20
        print(f"\n{how}: {count} calls meanwhile, the slowest {slowest:.2f} s; {grown} MB more")
        assert grown < 400
        kernel.kill("bad")
        attacking.join(30)
        assert kernel.call("healthy.answer") == 42
