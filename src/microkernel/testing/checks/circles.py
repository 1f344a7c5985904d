"""Calls and asks in a circle: refused at once, or allowed where one of them can end."""

from __future__ import annotations

from microkernel.errors import (
    CallDeadlock,
)
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import requires_native

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
