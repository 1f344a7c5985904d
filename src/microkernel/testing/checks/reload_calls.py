"""Calls during a reload: from other plugins, and back to the plugin that is being reloaded."""

from __future__ import annotations

from microkernel.errors import PluginDied
from microkernel.testing.checks.reloads import counter
from microkernel.testing.harness import Workspace, plugin
from microkernel.testing.levels import requires_native


def check_callers_notice_nothing_of_a_reload(workspace: Workspace) -> None:
    """During five reloads under constant load from a plugin and the embedder, there are no errors, and each event is
    handled exactly once."""
    speaker = """
    @expose
    def fire(self, count: int) -> int:
        for n in range(count):
            self.api.emit("hit", n=n)
            assert self.api.call("p.hits", timeout=30) > n  # first in, first out, over a reload too
        return count
    """
    with workspace.run(p=counter(), speaker=plugin(speaker)) as harness:
        firing = harness.in_background(harness.call, "speaker.fire", 300)

        def fire() -> None:
            for n in range(300):
                harness.kernel.emit("hit", n=1000 + n)
                assert harness.call("p.hits") > n

        mine = harness.in_background(fire)
        for _ in range(5):
            harness.kernel.reload("p")
        firing.result()
        mine.result()
        assert harness.call("p.hits") == 600
        numbers = [event["n"] for event in harness.received("hit", 600)]
        assert [n for n in numbers if n < 1000] == list(range(300))
        assert [n for n in numbers if n >= 1000] == [1000 + n for n in range(300)]
        assert harness.info("p").generation == 6


def check_a_reload_that_ends_the_old_by_force_tells_its_callers(workspace: Workspace) -> None:
    """If a method does not end within the stop deadline, its caller gets PluginDied, and the new code runs."""
    body = """
    @expose
    def spin(self) -> None:
        self.api.emit("out.spinning")
        while True: pass
    @expose
    def ping(self) -> str:
        return "pong"
    """
    manifest = "limits = { stop = 0.1, kill_grace = 0.2 }"
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        waiting = harness.in_background(harness.call, "p.spin")
        harness.received("spinning", 1)
        assert harness.kernel.reload("p").generation == 2
        waiting.error(PluginDied)
        assert harness.call("p.ping") == "pong"
        assert harness.info("p").waiting == 0


_BACK = """
    @expose
    {define} begin(self) -> int:
        self.api.emit("out.begun")
        {wait}
        return {call}("q.relay", timeout=20.0) * 10 + self.api.generation
    @expose
    {define} helper(self) -> int:
        return self.api.generation
"""


_RELAY = """
    @expose
    def relay(self) -> int:
        return self.api.call("p.helper", timeout=20.0)
"""


def _check_calling_back(workspace: Workspace, source: str) -> None:
    """``begin`` calls ``q``, which calls back ``p`` during its reload: the old instance answers both."""
    with workspace.run(p=source, q=plugin(_RELAY)) as harness:
        answer = harness.in_background(harness.call, "p.begin")
        harness.received("begun", 1)
        reload = harness.in_background(harness.kernel.reload, "p")
        harness.until(lambda: harness.kernel.core.registry.get("p").retiring is not None, "p is asked to stop")
        queued = harness.in_background(harness.call, "p.helper")
        harness.release("go")
        assert answer.result() == 11
        assert reload.result().generation == 2
        assert queued.result() == 2


@requires_native
def check_a_call_back_to_a_handler_of_the_old_passes_a_reload(workspace: Workspace) -> None:
    """A handler of the old instance waits for a call that calls back its own plugin: that call passes the paused
    mailbox."""
    source = _BACK.format(define="def", wait='self.hold("go")', call="self.api.call")
    _check_calling_back(workspace, plugin(source, manifest="concurrency = 2"))


def check_a_call_back_to_an_async_handler_of_the_old_passes_a_reload(workspace: Workspace) -> None:
    """An ``async`` handler's call back passes the paused mailbox too."""
    wait = 'while self.api.get_data("go") is None: await asyncio.sleep(0.001)'
    _check_calling_back(workspace, plugin(_BACK.format(define="async def", wait=wait, call="await self.api.acall")))


@requires_native
def check_spawned_work_of_the_old_waits_for_nobody(workspace: Workspace) -> None:
    """A call back from spawned work belongs to no handler: it waits for the new instance, and is answered."""
    body = """
    def start(self) -> None:
        if self.api.generation == 1:
            self.api.spawn(self.work)
    def work(self) -> None:
        self.hold("go")
        try:
            self.api.emit("out.answer", value=self.api.call("q.relay", timeout=20.0))
        except errors.KernelError as error:
            self.api.emit("out.answer", value=type(error).__name__)
    @expose
    def helper(self) -> int:
        return self.api.generation
    @expose
    def wait(self) -> None:
        self.hold("go")
    """
    with workspace.run(p=plugin(body, manifest="concurrency = 2"), q=plugin(_RELAY)) as harness:
        waiting = harness.in_background(harness.call, "p.wait")
        harness.until(lambda: harness.info("p").waiting == 1, "its method runs")
        reload = harness.in_background(harness.kernel.reload, "p")
        harness.release("go")
        waiting.result()
        assert reload.result().generation == 2
        assert harness.call("p.helper") == 2
