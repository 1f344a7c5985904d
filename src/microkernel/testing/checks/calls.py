"""Calls: values, errors, deadlines, deaths, and cycles."""

from __future__ import annotations

import asyncio
from typing import Any

from microkernel.errors import (
    CallDeadlock,
    CallFailed,
    CallTimeout,
    MethodNotFound,
    PluginDied,
    PluginNotActive,
    PluginNotFound,
)
from microkernel.testing.harness import TIMEOUT, Workspace, expect_error, plugin
from microkernel.testing.levels import requires_native

ECHO = plugin(
    """
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        api.expose(self.plus, "add")
        api.expose(lambda: "a lambda", "anonymous")
    @expose
    def echo(self, value: Any = None, *more: Any, **named: Any) -> list:
        return [value, more, named]
    @expose(name="other")
    def named_otherwise(self) -> str:
        return "other"
    @expose
    async def later(self, value: int) -> int:
        await asyncio.sleep(0)
        return value
    def plus(self, a: int, b: int = 1) -> int:
        return a + b
    @expose
    def nothing(self) -> None: ...
    """
)


def check_calls_return(workspace: Workspace) -> None:
    """Calls return values, with arguments by position and by name; of methods by ``@expose``, ``@expose(name=)`` and
    ``api.expose``, sync and async."""
    with workspace.run(echo=ECHO) as harness:
        assert harness.call("echo.echo", 1, 2, x=3) == [1, [2], {"x": 3}]
        assert harness.call("echo.echo") == [None, [], {}]
        assert harness.call("echo.other") == "other"
        assert harness.call("echo.later", 7) == 7
        assert harness.call("echo.add", 1, b=2) == 3
        assert harness.call("echo.add", a=1) == 2
        assert harness.call("echo.anonymous") == "a lambda"
        assert harness.call("echo.nothing") is None
        assert set(harness.info("echo").methods) == {"echo", "other", "later", "add", "anonymous", "nothing"}


def check_acall_of_the_embedder(workspace: Workspace) -> None:
    """``await kernel.acall`` supports many concurrent calls; each gets its own answer, and errors as ``call`` does."""

    async def work(kernel: Any) -> None:
        answers = await asyncio.gather(*(kernel.acall("echo.later", n, timeout=TIMEOUT) for n in range(50)))
        assert answers == list(range(50))
        try:
            await kernel.acall("echo.missing", timeout=TIMEOUT)
        except MethodNotFound:
            return
        raise AssertionError("MethodNotFound was expected")

    with workspace.run(echo=ECHO) as harness:
        asyncio.run(work(harness.kernel))


def check_many_callers_each_get_their_own_answer(workspace: Workspace) -> None:
    """Concurrent callers, from several threads and several plugins, each get their own answer."""
    body = """
    @expose
    def run(self, base: int) -> list:
        return [self.api.call("echo.add", base, b=n, timeout=30) for n in range(50)]
    """
    with workspace.run(echo=ECHO, a=plugin(body), b=plugin(body)) as harness:

        def many(base: int) -> list[int]:
            return [harness.call("echo.add", base, b=n) for n in range(50)]

        under_way = [harness.in_background(many, 1000 * n) for n in range(4)]
        under_way += [
            harness.in_background(harness.call, f"{name}.run", base) for name, base in (("a", 10_000), ("b", 20_000))
        ]
        wanted = [[base + n for n in range(50)] for base in (0, 1000, 2000, 3000, 10_000, 20_000)]
        assert [one.result() for one in under_way] == wanted


CHAIN = """
    @expose
    def go(self, depth: int) -> Any:
        if depth == 0:
            raise LookupError("no such line")
        return self.api.call("%s.go", depth - 1, timeout=30)
    @expose
    async def ago(self, depth: int) -> Any:
        if depth == 0:
            raise LookupError("no such line")
        return await self.api.acall("%s.ago", depth - 1, timeout=30)
"""


def check_what_a_method_raises_is_call_failed(workspace: Workspace) -> None:
    """An exception of a method is CallFailed with the remote type, message and traceback, and one line per hop; the
    callee keeps running."""
    with workspace.run(
        a=plugin(CHAIN % ("b", "b")), b=plugin(CHAIN % ("c", "c")), c=plugin(CHAIN % ("a", "a"))
    ) as harness:
        error = expect_error(CallFailed, harness.call, "a.go", 0)
        assert (error.remote_type, error.remote_message) == ("LookupError", "no such line")
        assert "a.py" in error.remote_traceback
        assert "in go" in error.remote_traceback
        assert "sdk/executor" not in error.remote_traceback
        assert "a.py" in error.text
        for method in ("go", "ago"):
            error = expect_error(CallFailed, harness.call, f"a.{method}", 2)
            assert [hop.split(":")[0] for hop in error.hops] == [f"a.{method}", f"b.{method}", f"c.{method}"]
            assert "LookupError: no such line" in error.hops[2]
            assert all("\n" not in hop for hop in error.hops)
        assert [harness.info(name).state for name in "abc"] == ["active"] * 3


def check_what_cannot_be_called(workspace: Workspace) -> None:
    """Calls raise MethodNotFound, PluginNotFound or PluginNotActive, with a suggestion. From plugins too."""
    body = """
    @expose
    def attempts(self) -> list:
        got = []
        for target in ("echo.ecko", "ecko.echo", "off.ping", "echo"):
            try:
                self.api.call(target, timeout=30)
            except errors.KernelError as error:
                got.append([type(error).__name__, str(error)])
        return got
    """
    with workspace.run(echo=ECHO, off=plugin(""), p=plugin(body)) as harness:
        harness.kernel.stop("off")
        wanted = [
            (MethodNotFound, "'echo'"), (PluginNotFound, "'echo'"), (PluginNotActive, "stopped"), (MethodNotFound, ""),
        ]  # fmt: skip
        for (kind, word), target in zip(wanted, ("echo.ecko", "ecko.echo", "off.ping", "echo"), strict=True):
            assert word in expect_error(kind, harness.call, target).text
        unknown = expect_error(MethodNotFound, harness.call, "echo.zzz").text
        assert unknown.startswith("no method echo.zzz; the methods of echo: ")
        assert {"later", "add"} <= set(unknown.partition("echo: ")[2].split(", "))
        assert "mk start off" in expect_error(PluginNotActive, harness.call, "off.ping").text
        harness.kernel.start("off")
        assert (
            expect_error(MethodNotFound, harness.call, "off.ping").text == "no method off.ping; off exposes no methods"
        )
        harness.kernel.stop("off")
        got = harness.call("p.attempts")
        assert [name for name, _ in got] == [kind.__name__ for kind, _ in wanted]
        assert all(word in text for (_, text), (_, word) in zip(got, wanted, strict=True))


SLOW = plugin(
    """
    @expose
    def sync(self) -> None:
        self.api.emit("out.entered")
        while not self.api.cancelled:
            time.sleep(0.001)
        self.api.emit("out.cancelled", how="sync")
    @expose
    def sleeper(self) -> None:
        self.api.emit("out.entered")
        self.api.emit("out.cancelled", how="sleeper", whole=self.api.sleep(3600))
    @expose
    def quick(self) -> str:
        return "quick"
    """
)
SLOW_ASYNC = plugin(
    """
    @expose
    async def wait(self) -> None:
        self.api.emit("out.entered")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.api.emit("out.cancelled", how="async")
            raise
    """
)
IMPATIENT = plugin(
    """
    @expose
    def attempt(self, target: str, timeout: float) -> str:
        try:
            self.api.call(target, timeout=timeout)
        except errors.CallTimeout as error:
            return str(error)
    @expose
    async def aattempt(self, target: str, timeout: float) -> str:
        try:
            await self.api.acall(target, timeout=timeout)
        except errors.CallTimeout as error:
            return str(error)
    """
)


def check_deadline_of_a_call(workspace: Workspace) -> None:
    """After the deadline the caller gets CallTimeout, and the callee sees it: ``api.cancelled``, an interrupted
    ``sleep``, CancelledError."""
    with workspace.run(slow=SLOW, lazy=SLOW_ASYNC, p=IMPATIENT) as harness:
        targets = ("slow.sync", "slow.sleeper", "lazy.wait")
        for target in targets:
            assert target in expect_error(CallTimeout, harness.call, target, timeout=0.1).text
        hows = [event["how"] for event in harness.received("cancelled", 3)]
        assert sorted(hows) == ["async", "sleeper", "sync"]
        assert harness.received("cancelled")[hows.index("sleeper")]["whole"] is False
        for attempt in ("p.attempt", "p.aattempt"):
            for target in targets:
                assert target in harness.call(attempt, target, 0.1)
        assert len(harness.received("cancelled", 9)) == 9
        assert harness.call("slow.quick") == "quick"


def check_a_late_answer_reaches_nobody(workspace: Workspace) -> None:
    """A late answer is dropped: after a timeout, the next call gets its own answer."""
    body = """
    @expose
    def number(self, n: int, key: str = "") -> int:
        if key:
            self.hold(key)
        return n
    """
    relay = """
    @expose
    def late_then(self) -> list:
        try:
            self.api.call("p.number", 1, key="go", timeout=0.1)
        except errors.CallTimeout:
            self.api.set_data("go", True)
        return [self.api.call("p.number", n, timeout=30) for n in range(2, 20)]
    """
    with workspace.run(p=plugin(body), q=plugin(relay)) as harness:
        expect_error(CallTimeout, harness.call, "p.number", 1, "first", timeout=0.1)
        harness.release("first")
        assert [harness.call("p.number", n) for n in range(2, 20)] == list(range(2, 20))
        assert harness.call("q.late_then") == list(range(2, 20))


def check_a_callers_end_cancels_its_call(workspace: Workspace) -> None:
    """When the caller is killed, its call is cancelled at the callee."""
    with workspace.run(slow=SLOW, p=IMPATIENT) as harness:
        waiting = harness.in_background(harness.kernel.call, "p.attempt", "slow.sync", 25.0, timeout=25.0)
        harness.received("entered", 1)
        harness.kernel.kill("p")
        waiting.error(PluginDied)
        assert harness.received("cancelled", 1)[0] == {"how": "sync"}


def check_deadlines_travel_on(workspace: Workspace) -> None:
    """A nested call has at most what is left of the deadline around it, whatever timeout it requests."""
    middle = """
    @expose
    def relay(self) -> None:
        self.api.call("slow.sync", timeout=25)
    @expose
    async def arelay(self) -> None:
        await self.api.acall("slow.sync", timeout=25)
    """
    with workspace.run(slow=SLOW, middle=plugin(middle)) as harness:
        for count, method in enumerate(("relay", "arelay"), 1):
            # Long enough for the callee's call to start, on a busy machine too.
            expect_error(CallTimeout, harness.call, f"middle.{method}", timeout=0.6)
            assert len(harness.received("cancelled", count)) == count


def check_a_dead_callee_is_plugin_died_at_once(workspace: Workspace) -> None:
    """A dead callee raises PluginDied at once: killed or by SystemExit, while serving or waiting, for the embedder and
    plugins."""
    body = """
    @expose
    def wait(self) -> None:
        self.api.emit("out.entered")
        self.hold("never")
    @expose
    def leave(self) -> None:
        sys.exit(3)
    """
    caller = """
    @expose
    def attempt(self, target: str) -> str:
        try:
            self.api.call(target, timeout=25)
        except errors.PluginDied as error:
            return error.name
    """
    manifest = 'supervision = { restart = "temporary" }'
    with workspace.run(p=plugin(body, manifest=manifest), q=plugin(caller)) as harness:
        plain = harness.in_background(harness.call, "p.wait", timeout=25.0)
        harness.received("entered", 1)
        behind = harness.in_background(harness.call, "p.wait", timeout=25.0)
        relayed = harness.in_background(harness.call, "q.attempt", "p.wait", timeout=25.0)
        harness.until(lambda: harness.info("p").waiting >= 3, "3 calls")
        harness.kernel.kill("p")
        assert plain.error(PluginDied).name == "p"
        behind.error(PluginDied)
        assert relayed.result() == "p"
        harness.kernel.start("p")
        assert "exit" in expect_error(PluginDied, harness.call, "p.leave", timeout=25.0).text
        harness.until_state("p", "stopped")
        harness.kernel.start("p")
        assert harness.call("q.attempt", "p.leave", timeout=25.0) == "p"


CIRCLE = """
    @expose
    def go(self, path: list[str]) -> Any:
        if not path:
            return "end"
        return self.api.call(f"{path[0]}.go", path[1:], timeout=25)
    @expose
    def leaf(self) -> str:
        return "leaf"
    @expose
    def caught(self, path: list[str]) -> str:
        try:
            return self.api.call(f"{path[0]}.go", path[1:], timeout=25)
        except errors.CallDeadlock as error:
            return error.chain
"""


def check_a_circle_of_calls_is_refused_at_once(workspace: Workspace) -> None:
    """A cycle of calls raises CallDeadlock with the chain, unwrapped through all hops: ``a -> b -> a``, longer ones,
    and a plugin that calls itself."""
    with workspace.run(a=plugin(CIRCLE), b=plugin(CIRCLE), c=plugin(CIRCLE)) as harness:
        for path, chain in (
            (["b", "a"], "a -> b -> a"), (["b", "c", "a"], "a -> b -> c -> a"), (["a"], "a -> a"),
            (["b", "c", "b"], "b -> c -> b"), (["b", "b"], "b -> b"),
        ):  # fmt: skip
            error = expect_error(CallDeadlock, harness.call, "a.go", path, timeout=25.0)
            assert sorted(set(error.chain.split(" -> "))) == sorted(set(chain.split(" -> "))), error.chain
            assert error.chain.split(" -> ")[0] == error.chain.split(" -> ")[-1]
        assert harness.call("a.caught", ["b", "a"]) in ("a -> b -> a", "b -> a -> b")
        assert harness.call("a.go", ["b", "c"]) == "end"  # no cycle: it is not refused, and no state remains


@requires_native
def check_circles_that_somebody_can_leave_proceed(workspace: Workspace) -> None:
    """A cycle proceeds if a plugin in it can: an async plugin with ``acall``, ``concurrency = 2``, or spawned work."""
    lazy = """
    @expose
    async def go(self, path: list[str]) -> Any:
        if not path:
            return "end"
        return await self.api.acall(f"{path[0]}.go", path[1:], timeout=25)
    """
    spawning = """
    @expose
    def begin(self) -> None:
        self.api.spawn(self.work)
    def work(self) -> None:
        self.api.emit("out.spawned", value=self.api.call("b.go", ["spawning"], timeout=25))
    @expose
    def go(self, path: list[str]) -> str:
        return "end"
    """
    wide = plugin(CIRCLE, manifest="concurrency = 2")
    with workspace.run(lazy=plugin(lazy), b=plugin(CIRCLE), wide=wide, spawning=plugin(spawning)) as harness:
        assert harness.call("lazy.go", ["b", "lazy", "lazy", "lazy"]) == "end"
        assert harness.call("wide.go", ["b", "wide"]) == "end"
        assert harness.call("wide.go", ["wide"]) == "end"
        expect_error(CallDeadlock, harness.call, "wide.go", ["wide", "wide"], timeout=25.0)
        harness.call("spawning.begin")
        assert harness.received("spawned", 1) == [{"value": "end"}]


def check_an_ask_in_a_circle_does_not_hang(workspace: Workspace) -> None:
    """A handler that is asked and cannot answer, because it waits for the asker, gives an error or is late."""
    body = """
    @on("question")
    def answer(self) -> Any:
        return self.api.call("asker.leaf", timeout=25)
    """
    asker = """
    @expose
    def begin(self) -> list:
        return [type(reply.error).__name__ for reply in self.api.ask("question", timeout=1.0)]
    @expose
    def leaf(self) -> str:
        return "leaf"
    """
    with workspace.run(p=plugin(body), asker=plugin(asker)) as harness:
        (name,) = harness.call("asker.begin")
        assert name in ("CallDeadlock", "CallTimeout")
        assert harness.call("asker.leaf") == "leaf"


def check_calls_wait_for_a_plugin_that_is_starting(workspace: Workspace) -> None:
    """Calls and events that arrive before ``start`` has returned are handled after it."""
    body = """
    def start(self) -> None:
        self.hold("go")
    @expose
    def ping(self) -> str:
        return "pong"
    @on("x")
    def hear(self) -> None:
        self.api.emit("out.heard")
    """
    with workspace.run(p=plugin("")) as harness:
        harness.kernel.stop("p")
        workspace.write("p", plugin(body))
        starting = harness.in_background(harness.kernel.start, "p")
        harness.until_state("p", "starting")
        waiting = harness.in_background(harness.call, "p.ping")
        harness.kernel.emit("x")
        harness.until(lambda: harness.info("p").waiting >= 2, "2 waiting")
        assert not waiting.is_done
        harness.release("go")
        assert waiting.result() == "pong"
        assert starting.result().state == "active"
        assert len(harness.received("heard", 1)) == 1


def check_a_call_given_up_leaves_nothing_behind(workspace: Workspace) -> None:
    """After an abandoned call whose callee has ended too, nothing is counted as waiting, and no watchdog ends an idle
    plugin."""
    body = """
    @expose
    def slow(self, key: str) -> None:
        self.hold(key)
    @expose
    async def never(self) -> None:
        await asyncio.sleep(3600)
    """
    sync = body.replace("async def never", "def never").replace("await asyncio.sleep(3600)", "self.api.sleep(3600)")
    with workspace.run(p=plugin(sync), q=plugin(body), relay=IMPATIENT) as harness:
        for name in "pq":
            for n in range(3):
                expect_error(CallTimeout, harness.call, f"{name}.slow", f"{name}.{n}", timeout=0.05)
                expect_error(CallTimeout, harness.call, f"{name}.never", timeout=0.05)
                harness.release(f"{name}.{n}")
                harness.call("relay.attempt", f"{name}.never", 0.05)
            harness.until(lambda name=name: harness.info(name).waiting == 0, f"nothing left at {name}")  # type: ignore[misc]
            assert harness.info(name).restarts == 0


def check_a_call_past_its_deadline_is_not_begun(workspace: Workspace) -> None:
    """A call whose caller gave up while it was queued is not run."""
    body = """
    count = 0
    @expose
    def slow(self) -> None:
        self.api.emit("out.entered")
        self.hold("go")
    @expose
    def count_up(self) -> int:
        self.count += 1
        return self.count
    """
    with workspace.run(p=plugin(body)) as harness:
        slow = harness.in_background(harness.call, "p.slow")
        harness.received("entered", 1)
        for _ in range(3):
            expect_error(CallTimeout, harness.call, "p.count_up", timeout=0.02)
        harness.release("go")
        slow.result()
        assert harness.call("p.count_up") == 1


def check_more_calls_than_an_instance_is_given_at_once(workspace: Workspace) -> None:
    """Thousands of calls that are queued behind one are answered when it is done."""
    body = """
    @expose
    def slow(self) -> None:
        self.api.emit("out.entered")
        self.hold("go")
    @expose
    def echo(self, n: int) -> int:
        return n
    """

    async def work(kernel: Any, release: Any) -> list[int]:
        slow = asyncio.create_task(kernel.acall("p.slow", timeout=TIMEOUT))
        many = [asyncio.create_task(kernel.acall("p.echo", n, timeout=TIMEOUT)) for n in range(2500)]
        await asyncio.sleep(0)
        release("go")
        await slow
        return list(await asyncio.gather(*many))

    with workspace.run(p=plugin(body)) as harness:
        assert asyncio.run(work(harness.kernel, harness.release)) == list(range(2500))
