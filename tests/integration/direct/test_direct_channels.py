"""Calls on direct channels behave like calls through the kernel, and channels are closed when that could end."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microkernel.errors import (
    CallDeadlock,
    CallFailed,
    PluginDied,
)
from microkernel.testing.harness import KernelHarness, Workspace, plugin
from tests.harness.waiting import eventually

CALLEE = """
count = 0
@expose
def echo(self, value: Any = None) -> Any:
    self.count += 1
    return value
@expose
def counted(self) -> int:
    return self.count
@expose
def add(self, a: int, b: int) -> int:
    return a + b
@expose
def fail(self) -> None:
    raise ValueError("no such thing")
@expose
def pid(self) -> int:
    return os.getpid()
@expose
def wait(self, key: str) -> str:
    self.api.emit("out.waiting", key=key)
    self.hold(key)
    return key
@expose
def spin(self) -> None:
    self.api.emit("out.spinning")
    while True: pass
@expose
def until_cancelled(self) -> None:
    started = time.monotonic()
    while not self.api.cancelled and time.monotonic() < started + 20:
        self.api.sleep(0.01)
    self.api.emit("out.cancelled", seconds=time.monotonic() - started)
@expose
def announce(self, n: int) -> int:
    self.api.emit("out.announced", n=n)
    return n
@expose
def exit(self) -> None:
    os._exit(3)
@expose
def back(self, target: str) -> Any:
    return self.api.call(target, timeout=20)
@expose
def large(self, size: int) -> bytes:
    return bytes(size)
@expose
def buffer(self, size: int) -> Any:
    return self.api.share(bytes(size))
@on("busy")
def busy(self, path: str) -> None:
    open(path + ".here", "w").close()
    while not os.path.exists(path) and self.api.generation == 1:
        time.sleep(0.001)
@expose
def generation(self) -> int:
    return self.api.generation
@on("tell")
def told(self, n: int) -> None:
    self.seen = [*getattr(self, "seen", []), n]
@expose
def told_so_far(self) -> list:
    return getattr(self, "seen", [])
"""
CALLER = """
@expose
def call(self, target: str, args: list, timeout: float = 20.0) -> Any:
    return self.api.call(target, *args, timeout=timeout)
@expose
def many(self, count: int) -> int:
    for n in range(count):
        assert self.api.call("callee.echo", n, timeout=20) == n
    return count
@expose
def emit_then_call(self, count: int) -> None:
    for n in range(count):
        self.api.emit("tell", n=n)
        for _ in range(3):
            assert self.api.call("callee.told_so_far", timeout=20) == list(range(n + 1))
@expose
def threads(self, count: int) -> int:
    wrong = []
    def work(base: int) -> None:
        for n in range(base, base + count):
            if self.api.call("callee.echo", n, timeout=20) != n:
                wrong.append(n)
            if n % 50 == 0:
                self.api.emit("out.passed", n=n)
    running = [threading.Thread(target=work, args=(base * 100_000,)) for base in range(4)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return len(wrong)
@expose
def cycle(self, count: int) -> None:
    # get a channel and give it up, many times
    channel = self.api._instance._channel
    for _ in range(count):
        while "callee" not in channel._routes:
            self.api.call("callee.echo", timeout=20)
        channel._drop_route("callee", channel._routes["callee"])
@expose
def answer(self) -> str:
    return "answer"
@on("go")
def go(self, target: str) -> None:
    try:
        self.api.call(target, timeout=20)
    except errors.KernelError as error:
        self.api.emit("out.failed", who=self.api.name, error=type(error).__name__)
    else:
        self.api.emit("out.returned", who=self.api.name)
"""


def connect(harness: KernelHarness, caller: str = "caller", callee: str = "callee") -> None:
    """Call until there is a channel and the last call has taken it."""

    def is_direct() -> bool:
        harness.call(f"{caller}.call", f"{callee}.echo", [None])
        return callee in harness.info(caller).direct

    eventually(is_direct)
    for _ in range(3):  # the caller has read of its end, and then relayed a call
        harness.call(f"{caller}.call", f"{callee}.echo", [None])


@contextmanager
def connected(folder: Path, callee: str = "", caller: str = "") -> Iterator[KernelHarness]:
    sources = {"callee": plugin(CALLEE, manifest=callee), "caller": plugin(CALLER, manifest=caller)}
    with Workspace("process", folder, direct_after=1).run(**sources) as harness:
        connect(harness)
        yield harness


def test_calls_on_a_channel_return_and_raise_as_others_do(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        for _ in range(3):
            assert harness.call("caller.call", "callee.echo", [[1, "x", {"y": 2.5}]]) == [1, "x", {"y": 2.5}]
            assert harness.call("caller.call", "callee.add", [1, 2]) == 3
            for target, args, kind, text in (
                ("callee.fail", [], CallFailed, "ValueError: no such thing"),
                ("callee.add", [1, "x"], CallFailed, "InvalidArguments"),
                ("callee.nothing", [], CallFailed, "MethodNotFound"),
            ):
                with pytest.raises(kind) as raised:
                    harness.call("caller.call", target, args)
                assert text in str(raised.value.fields)
        assert harness.info("caller").direct == ("callee",)
        assert harness.kernel.dead_letters() == []


def test_every_call_is_counted(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        harness.call("caller.many", 500)
        made = harness.call("callee.counted") + 1
        harness.until(lambda: harness.info("callee").calls == made, f"{made} calls")
        assert harness.info("callee").waiting == 0
        assert harness.info("caller").direct == ("callee",)


def test_threads_of_the_caller_each_get_their_own_answers(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        assert harness.call("caller.threads", 500, timeout=60) == 0
        made = harness.call("callee.counted") + 1
        harness.until(lambda: harness.info("callee").calls == made, f"{made} calls")
        assert harness.info("callee").waiting == 0


def test_no_call_overtakes_an_event_of_its_sender(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        harness.call("caller.emit_then_call", 100)


def test_large_replies_and_buffers_come_through_the_kernel(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        for size in (10, 70_000, 10, 1_000_000):
            assert len(harness.call("caller.call", "callee.large", [size])) == size
            assert len(bytes(harness.call("caller.call", "callee.buffer", [size]))) == size
            assert harness.call("caller.call", "callee.echo", [bytes(size)], returns=bytes) == bytes(size)
        assert harness.info("caller").direct == ("callee",)


@pytest.mark.parametrize("how", ["exit", "kill", "killed by the kernel"])
def test_a_dying_callee_is_plugin_died_at_once(how: str, tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        pid = harness.info("callee").pid
        assert pid is not None
        if how == "exit":
            waiting = harness.in_background(harness.call, "caller.call", "callee.exit", [])
        else:
            waiting = harness.in_background(harness.call, "caller.call", "callee.wait", ["never"])
            harness.received("waiting", 1)
            began = time.monotonic()
            if how == "kill":
                os.kill(pid, signal.SIGKILL)
            else:
                harness.kernel.kill("callee")
            assert time.monotonic() - began < 10
        assert "PluginDied" in str(waiting.error(CallFailed).fields) or "PluginDied" in str(waiting)
        assert harness.info("caller").direct == ()


def test_a_dying_caller_cancels_its_call(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        pid = harness.info("caller").pid
        assert pid is not None
        waiting = harness.in_background(harness.call, "caller.call", "callee.until_cancelled", [])
        harness.until(lambda: harness.info("callee").waiting > 0, "the call is adopted")
        os.kill(pid, signal.SIGKILL)
        waiting.error(PluginDied)
        assert harness.received("cancelled", 1)[0]["seconds"] < 15
        harness.until(lambda: harness.info("callee").waiting == 0, "it is done")
        harness.until_state("caller", "active")
        connect(harness)


def test_a_deadline_holds_and_cancels_the_callee(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        for _ in range(3):
            with pytest.raises(CallFailed) as raised:
                harness.call("caller.call", "callee.until_cancelled", [], 0.1)
            assert "CallTimeout" in str(raised.value.fields)
            connect(harness)
        for event in harness.received("cancelled", 3):
            assert event["seconds"] < 10
        harness.until(lambda: harness.info("callee").waiting == 0, "it is done")


def test_a_handler_past_its_limit_is_ended(tmp_path: Path) -> None:
    with connected(tmp_path, callee="limits = { handler = 0.3 }") as harness:
        waiting = harness.in_background(harness.call, "caller.call", "callee.spin", [])
        waiting.error(CallFailed)
        harness.until_state("callee", "active")
        assert harness.info("callee").generation == 2
        assert "callee.spin()" in harness.info("callee").last_death["reason"]


def test_crossing_calls_are_a_deadlock(tmp_path: Path) -> None:
    """Both calls are sent, and neither is known to the kernel, before either plugin could answer."""
    cross = f"""
@expose
def echo(self, value: Any = None) -> Any:
    return value
@on("cross")
def cross(self, round: int) -> None:
    other = "b" if self.api.name == "a" else "a"
    open(f"{tmp_path}/{{self.api.name}}{{round}}", "w").close()
    while not os.path.exists(f"{tmp_path}/{{other}}{{round}}"):
        time.sleep(0.0001)
    try:
        answer = self.api.call(f"{{other}}.answer", timeout=20)
    except errors.KernelError as error:
        answer = type(error).__name__
    self.api.emit("out.crossed", answer=answer)
"""
    source = plugin(CALLER + cross)
    with Workspace("process", tmp_path, direct_after=1).run(a=source, b=source) as harness:
        for round in range(1, 6):
            connect(harness, "a", "b")
            connect(harness, "b", "a")
            harness.kernel.emit("cross", round=round)
            answers = sorted(each["answer"] for each in harness.received("crossed", 2 * round)[-2:])
            assert answers == ["CallDeadlock", "answer"]


def test_a_call_back_is_refused_to_the_one_who_closes_the_circle(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        for _ in range(5):
            with pytest.raises((CallDeadlock, CallFailed)) as raised:
                harness.call("caller.call", "callee.back", ["caller.answer"])
            assert "caller -> callee -> caller" in str(raised.value.fields) or "callee -> caller" in str(raised.value)
            assert harness.call("caller.answer") == "answer"


def test_reload_of_the_callee_fails_no_call(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        calling = harness.in_background(harness.call, "caller.many", 20_000, timeout=60)
        reloads = 0
        while not calling.is_done and reloads < 10:
            harness.kernel.reload("callee")
            reloads += 1
        assert calling.result() == 20_000
        assert harness.info("callee").generation == reloads + 1
        assert harness.info("callee").waiting == 0
        connect(harness)


@pytest.mark.parametrize("how", ["reload", "crash"])
@pytest.mark.parametrize("is_adopted", [True, False])
def test_a_call_that_was_not_received_is_answered_by_the_next_generation(
    how: str, is_adopted: bool, tmp_path: Path
) -> None:
    """The callee is busy with an event, so that the call waits in the channel."""
    with connected(tmp_path) as harness:
        path = tmp_path / "free"
        harness.kernel.emit("busy", path=str(path))
        harness.until((tmp_path / "free.here").exists)
        calling = harness.in_background(harness.call, "caller.call", "callee.generation", [])
        if is_adopted:
            harness.until(lambda: harness.info("callee").waiting >= 2, "the call is adopted")
        if how == "crash":
            os.kill(harness.info("callee").pid or 0, signal.SIGKILL)
        else:
            reloading = harness.in_background(harness.kernel.reload, "callee")
            harness.until(lambda: harness.info("caller").direct == (), "the channel is closed")
            path.touch()
            reloading.result()
        assert calling.result() == 2
        harness.until(lambda: harness.info("callee").waiting == 0, "nothing is left")


def test_a_stop_of_the_callee_refuses_later_calls_as_usual(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        harness.kernel.stop("callee")
        with pytest.raises(CallFailed) as raised:
            harness.call("caller.call", "callee.echo", [1])
        assert "PluginNotActive" in str(raised.value.fields)
        harness.kernel.start("callee")
        assert harness.call("caller.call", "callee.echo", [1]) == 1
        connect(harness)


def test_permissions_are_those_of_the_present_manifest(tmp_path: Path) -> None:
    allowed = 'permissions = { call = ["callee.*"], on = ["go"], emit = ["out.*"] }'
    with connected(tmp_path, caller=allowed) as harness:
        assert harness.call("caller.call", "callee.echo", [1]) == 1
        narrower = allowed.replace("callee.*", "callee.add")
        harness.workspace.write("caller", plugin(CALLER, manifest=narrower))
        harness.kernel.reload("caller")
        with pytest.raises(CallFailed) as raised:
            harness.call("caller.call", "callee.echo", [1])
        assert "PermissionDenied" in str(raised.value.fields)
        assert harness.call("caller.call", "callee.add", [1, 2]) == 3


def test_events_emitted_before_an_answer_are_there_when_it_is(tmp_path: Path) -> None:
    with connected(tmp_path) as harness:
        got: list[int] = []
        harness.kernel.on("out.announced", lambda n: got.append(n), inline=True)
        for n in range(200):
            harness.call("caller.call", "callee.announce", [n])
            assert got[-1] == n


def test_no_channel_to_asyncio_pools_or_other_levels(tmp_path: Path) -> None:
    later = "@expose\nasync def echo(self, value: Any = None) -> Any:\n    return value\n"
    sources = {
        "caller": plugin(CALLER),
        "later": plugin(later),
        "pool": plugin(CALLEE, manifest="concurrency = 3"),
    }
    with Workspace("process", tmp_path, direct_after=1).run(**sources) as harness:
        for _ in range(50):
            for name in ("later", "pool"):
                assert harness.call("caller.call", f"{name}.echo", [1]) == 1
        assert harness.info("caller").direct == ()


def test_channels_can_be_turned_off(tmp_path: Path) -> None:
    sources = {"callee": plugin(CALLEE), "caller": plugin(CALLER)}
    with Workspace("process", tmp_path, direct_after=0).run(**sources) as harness:
        harness.call("caller.many", 200)
        assert harness.info("caller").direct == ()


def test_a_thousand_channels_leave_no_descriptors_and_no_memory(tmp_path: Path) -> None:
    def state() -> list[tuple[int, int]]:
        """Return the descriptors and the resident pages of the kernel, the caller and the callee."""
        harness.until(lambda: harness.info("caller").direct == (), "all are closed")
        gc.collect()
        pids = [os.getpid(), harness.info("caller").pid, harness.info("callee").pid]
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
        return [(len(os.listdir(f"/proc/{pid}/fd")), used) for pid, used in zip(pids, pages, strict=True)]

    with connected(tmp_path) as harness:
        harness.call("caller.cycle", 200)
        before = state()
        harness.call("caller.cycle", 1000, timeout=60)
        eventually(lambda: all(now[0] <= then[0] for now, then in zip(state(), before, strict=True)), "descriptors")
        assert all(now[1] - then[1] < 256 for now, then in zip(state(), before, strict=True)), (before, state())


def test_reloads_leave_no_descriptors_in_the_caller_and_the_kernel(tmp_path: Path) -> None:
    """Although the kernel keeps the last ended instances for a while."""
    with connected(tmp_path) as harness:
        pids = harness.info("caller").pid, os.getpid()

        def descriptors() -> list[int]:
            gc.collect()
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

        before = descriptors()
        for _ in range(10):
            harness.kernel.reload("callee")
            connect(harness)
        eventually(lambda: all(now <= then + 1 for now, then in zip(descriptors(), before, strict=True)), "descriptors")
