"""Calls: values, errors, deadlines, deaths; and who waits for whom."""

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
from microkernel.testing.levels import natively
from microkernel.testing.stage import PATIENCE, Workspace, plugin, refused

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


def check_calls_return(stage: Workspace) -> None:
    """Values by position and by name; methods by ``@expose``, ``@expose(name=)`` and ``api.expose``, sync and async."""
    with stage.run(echo=ECHO) as scene:
        assert scene.call("echo.echo", 1, 2, x=3) == [1, [2], {"x": 3}]
        assert scene.call("echo.echo") == [None, [], {}]
        assert scene.call("echo.other") == "other"
        assert scene.call("echo.later", 7) == 7
        assert scene.call("echo.add", 1, b=2) == 3
        assert scene.call("echo.add", a=1) == 2
        assert scene.call("echo.anonymous") == "a lambda"
        assert scene.call("echo.nothing") is None
        assert set(scene.info("echo").methods) == {"echo", "other", "later", "add", "anonymous", "nothing"}


def check_acall_of_the_embedder(stage: Workspace) -> None:
    """``await kernel.acall``: many at once, each its own answer; errors as with ``call``."""

    async def work(kernel: Any) -> None:
        answers = await asyncio.gather(*(kernel.acall("echo.later", n, timeout=PATIENCE) for n in range(50)))
        assert answers == list(range(50))
        try:
            await kernel.acall("echo.missing", timeout=PATIENCE)
        except MethodNotFound:
            return
        raise AssertionError("MethodNotFound was expected")

    with stage.run(echo=ECHO) as scene:
        asyncio.run(work(scene.kernel))


def check_many_callers_each_get_their_own_answer(stage: Workspace) -> None:
    """From several threads and several plugins at once."""
    body = """
    @expose
    def run(self, base: int) -> list:
        return [self.api.call("echo.add", base, b=n, timeout=30) for n in range(50)]
    """
    with stage.run(echo=ECHO, a=plugin(body), b=plugin(body)) as scene:

        def many(base: int) -> list[int]:
            return [scene.call("echo.add", base, b=n) for n in range(50)]

        under_way = [scene.beside(many, 1000 * n) for n in range(4)]
        under_way += [scene.beside(scene.call, f"{name}.run", base) for name, base in (("a", 10_000), ("b", 20_000))]
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


def check_what_a_method_raises_is_call_failed(stage: Workspace) -> None:
    """With the remote type, message and traceback; one line a hop; the callee goes on."""
    with stage.run(a=plugin(CHAIN % ("b", "b")), b=plugin(CHAIN % ("c", "c")), c=plugin(CHAIN % ("a", "a"))) as scene:
        error = refused(CallFailed, scene.call, "a.go", 0)
        assert (error.remote_type, error.remote_message) == ("LookupError", "no such line")
        assert "a.py" in error.remote_traceback
        assert "in go" in error.remote_traceback
        assert "sdk/executor" not in error.remote_traceback
        assert "a.py" in error.text
        for method in ("go", "ago"):
            error = refused(CallFailed, scene.call, f"a.{method}", 2)
            assert [hop.split(":")[0] for hop in error.hops] == [f"a.{method}", f"b.{method}", f"c.{method}"]
            assert "LookupError: no such line" in error.hops[2]
            assert all("\n" not in hop for hop in error.hops)
        assert [scene.info(name).state for name in "abc"] == ["active"] * 3


def check_what_cannot_be_called(stage: Workspace) -> None:
    """MethodNotFound, PluginNotFound, PluginNotActive; with what may have been meant. From plugins too."""
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
    with stage.run(echo=ECHO, off=plugin(""), p=plugin(body)) as scene:
        scene.kernel.stop("off")
        wanted = [
            (MethodNotFound, "'echo'"), (PluginNotFound, "'echo'"), (PluginNotActive, "stopped"), (MethodNotFound, ""),
        ]  # fmt: skip
        for (kind, word), target in zip(wanted, ("echo.ecko", "ecko.echo", "off.ping", "echo"), strict=True):
            assert word in refused(kind, scene.call, target).text
        got = scene.call("p.attempts")
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


def check_deadline_of_a_call(stage: Workspace) -> None:
    """CallTimeout for the caller; the callee is told: ``api.cancelled``, an ended ``sleep``, CancelledError."""
    with stage.run(slow=SLOW, lazy=SLOW_ASYNC, p=IMPATIENT) as scene:
        targets = ("slow.sync", "slow.sleeper", "lazy.wait")
        for target in targets:
            assert target in refused(CallTimeout, scene.call, target, timeout=0.1).text
        hows = [event["how"] for event in scene.heard("cancelled", 3)]
        assert sorted(hows) == ["async", "sleeper", "sync"]
        assert scene.heard("cancelled")[hows.index("sleeper")]["whole"] is False
        for attempt in ("p.attempt", "p.aattempt"):
            for target in targets:
                assert target in scene.call(attempt, target, 0.1)
        assert len(scene.heard("cancelled", 9)) == 9
        assert scene.call("slow.quick") == "quick"


def check_a_late_answer_reaches_nobody(stage: Workspace) -> None:
    """After a timeout the next call gets its own answer."""
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
    with stage.run(p=plugin(body), q=plugin(relay)) as scene:
        refused(CallTimeout, scene.call, "p.number", 1, "first", timeout=0.1)
        scene.release("first")
        assert [scene.call("p.number", n) for n in range(2, 20)] == list(range(2, 20))
        assert scene.call("q.late_then") == list(range(2, 20))


def check_a_callers_end_cancels_its_call(stage: Workspace) -> None:
    """A plugin that is killed waits no more: whom it called is told."""
    with stage.run(slow=SLOW, p=IMPATIENT) as scene:
        waiting = scene.beside(scene.kernel.call, "p.attempt", "slow.sync", 25.0, timeout=25.0)
        scene.heard("entered", 1)
        scene.kernel.kill("p")
        waiting.error(PluginDied)
        assert scene.heard("cancelled", 1)[0] == {"how": "sync"}


def check_deadlines_travel_on(stage: Workspace) -> None:
    """A callee that calls gives what is left of its own deadline, whatever it asks for."""
    middle = """
    @expose
    def relay(self) -> None:
        self.api.call("slow.sync", timeout=25)
    @expose
    async def arelay(self) -> None:
        await self.api.acall("slow.sync", timeout=25)
    """
    with stage.run(slow=SLOW, middle=plugin(middle)) as scene:
        for count, method in enumerate(("relay", "arelay"), 1):
            # Long enough for the call of the callee to begin, on a busy machine too.
            refused(CallTimeout, scene.call, f"middle.{method}", timeout=0.6)
            assert len(scene.heard("cancelled", count)) == count


def check_a_dead_callee_is_plugin_died_at_once(stage: Workspace) -> None:
    """By ``kill``, by SystemExit, while being served or waiting; for embedder and plugins; not at the deadline."""
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
    with stage.run(p=plugin(body, manifest=manifest), q=plugin(caller)) as scene:
        plain = scene.beside(scene.call, "p.wait", timeout=25.0)
        scene.heard("entered", 1)
        behind = scene.beside(scene.call, "p.wait", timeout=25.0)
        relayed = scene.beside(scene.call, "q.attempt", "p.wait", timeout=25.0)
        scene.until(lambda: scene.info("p").waiting >= 3, "3 calls")
        scene.kernel.kill("p")
        assert plain.error(PluginDied).name == "p"
        behind.error(PluginDied)
        assert relayed.result() == "p"
        scene.kernel.start("p")
        assert "exit" in refused(PluginDied, scene.call, "p.leave", timeout=25.0).text
        scene.until_state("p", "stopped")
        scene.kernel.start("p")
        assert scene.call("q.attempt", "p.leave", timeout=25.0) == "p"


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


def check_a_circle_of_calls_is_refused_at_once(stage: Workspace) -> None:
    """``a -> b -> a``, longer ones, and oneself: CallDeadlock with the chain, unwrapped through all hops."""
    with stage.run(a=plugin(CIRCLE), b=plugin(CIRCLE), c=plugin(CIRCLE)) as scene:
        for path, chain in (
            (["b", "a"], "a -> b -> a"), (["b", "c", "a"], "a -> b -> c -> a"), (["a"], "a -> a"),
            (["b", "c", "b"], "b -> c -> b"), (["b", "b"], "b -> b"),
        ):  # fmt: skip
            error = refused(CallDeadlock, scene.call, "a.go", path, timeout=25.0)
            assert sorted(set(error.chain.split(" -> "))) == sorted(set(chain.split(" -> "))), error.chain
            assert error.chain.split(" -> ")[0] == error.chain.split(" -> ")[-1]
        assert scene.call("a.caught", ["b", "a"]) in ("a -> b -> a", "b -> a -> b")
        assert scene.call("a.go", ["b", "c"]) == "end"  # no circle: no refusal, and nothing is left behind


@natively
def check_circles_that_somebody_can_leave_proceed(stage: Workspace) -> None:
    """Through an async plugin with ``acall``, through ``concurrency = 2``, through spawned work."""
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
    with stage.run(lazy=plugin(lazy), b=plugin(CIRCLE), wide=wide, spawning=plugin(spawning)) as scene:
        assert scene.call("lazy.go", ["b", "lazy", "lazy", "lazy"]) == "end"
        assert scene.call("wide.go", ["b", "wide"]) == "end"
        assert scene.call("wide.go", ["wide"]) == "end"
        refused(CallDeadlock, scene.call, "wide.go", ["wide", "wide"], timeout=25.0)
        scene.call("spawning.begin")
        assert scene.heard("spawned", 1) == [{"value": "end"}]


def check_an_ask_in_a_circle_does_not_hang(stage: Workspace) -> None:
    """Who is asked and cannot answer, because it waits for the asker, answers with an error or too late."""
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
    with stage.run(p=plugin(body), asker=plugin(asker)) as scene:
        (name,) = scene.call("asker.begin")
        assert name in ("CallDeadlock", "CallTimeout")
        assert scene.call("asker.leaf") == "leaf"


def check_calls_wait_for_a_plugin_that_is_starting(stage: Workspace) -> None:
    """Calls and events that come before ``start`` has returned are handled after it."""
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
    with stage.run(p=plugin("")) as scene:
        scene.kernel.stop("p")
        stage.write("p", plugin(body))
        starting = scene.beside(scene.kernel.start, "p")
        scene.until_state("p", "starting")
        waiting = scene.beside(scene.call, "p.ping")
        scene.kernel.emit("x")
        scene.until(lambda: scene.info("p").waiting >= 2, "2 waiting")
        assert not waiting.is_done
        scene.release("go")
        assert waiting.result() == "pong"
        assert starting.result().state == "active"
        assert len(scene.heard("heard", 1)) == 1


def check_a_call_given_up_leaves_nothing_behind(stage: Workspace) -> None:
    """When the callee has ended too, nothing of it is counted as waiting, and no watchdog bites an idle plugin."""
    body = """
    @expose
    def slow(self, key: str) -> None:
        self.hold(key)
    @expose
    async def never(self) -> None:
        await asyncio.sleep(3600)
    """
    sync = body.replace("async def never", "def never").replace("await asyncio.sleep(3600)", "self.api.sleep(3600)")
    with stage.run(p=plugin(sync), q=plugin(body), relay=IMPATIENT) as scene:
        for name in "pq":
            for n in range(3):
                refused(CallTimeout, scene.call, f"{name}.slow", f"{name}.{n}", timeout=0.05)
                refused(CallTimeout, scene.call, f"{name}.never", timeout=0.05)
                scene.release(f"{name}.{n}")
                scene.call("relay.attempt", f"{name}.never", 0.05)
            scene.until(lambda name=name: scene.info(name).waiting == 0, f"nothing left at {name}")  # type: ignore[misc]
            assert scene.info(name).restarts == 0


def check_a_call_past_its_deadline_is_not_begun(stage: Workspace) -> None:
    """What its caller gave up while it waited is not entered any more."""
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
    with stage.run(p=plugin(body)) as scene:
        slow = scene.beside(scene.call, "p.slow")
        scene.heard("entered", 1)
        for _ in range(3):
            refused(CallTimeout, scene.call, "p.count_up", timeout=0.02)
        scene.release("go")
        slow.result()
        assert scene.call("p.count_up") == 1


def check_more_calls_than_an_instance_is_given_at_once(stage: Workspace) -> None:
    """Thousands that wait behind one are answered when it is done."""
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
        slow = asyncio.create_task(kernel.acall("p.slow", timeout=PATIENCE))
        many = [asyncio.create_task(kernel.acall("p.echo", n, timeout=PATIENCE)) for n in range(2500)]
        await asyncio.sleep(0)
        release("go")
        await slow
        return list(await asyncio.gather(*many))

    with stage.run(p=plugin(body)) as scene:
        assert asyncio.run(work(scene.kernel, scene.release)) == list(range(2500))
