"""Calls: values, arguments, errors, and callees that are gone or not ready."""

from __future__ import annotations

import asyncio
from typing import Any

from microkernel.errors import (
    CallFailed,
    MethodNotFound,
    PluginDied,
    PluginNotActive,
    PluginNotFound,
)
from microkernel.testing.harness import TIMEOUT, Workspace, expect_error, plugin

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


def check_methods_with_long_names(workspace: Workspace) -> None:
    """The name of a method may be as long as a topic."""
    names = ["m" * size for size in (1, 31, 32, 127, 128, 200)]
    source = f"""
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        for name in {names!r}:
            api.expose(lambda name=name: len(name), name)
    """
    with workspace.run(p=plugin(source)) as harness:
        assert [harness.call(f"p.{name}") for name in names] == [len(name) for name in names]
