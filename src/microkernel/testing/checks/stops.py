"""How plugins stop: within deadlines, after their queued messages, and with their cleanup completed."""

from __future__ import annotations

import textwrap

from microkernel.errors import CallTimeout, PluginDied, PluginNotActive
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import requires_native


def check_stop_that_raises_counts_as_stopped(workspace: Workspace) -> None:
    """An exception in ``stop`` is reported; the plugin is stopped nevertheless."""
    with workspace.run(rude=plugin("def stop(self) -> None:\n    raise OSError('no')")) as harness:
        assert harness.kernel.stop("rude").state == "stopped"


WITHOUT_STOP = """
from microkernel import IPlugin, expose

class Plugin(IPlugin):
    def start(self) -> None: ...
    @expose
    def ping(self) -> str:
        return "pong"
"""


def check_stop_is_optional(workspace: Workspace) -> None:
    """A plugin without ``stop`` loads, runs, and stops without a report."""
    with workspace.run(short=WITHOUT_STOP) as harness:
        assert harness.call("short.ping") == "pong"
        assert harness.kernel.stop("short").error is None
        assert harness.info("short").state == "stopped"


def check_stop_that_hangs_is_ended(workspace: Workspace) -> None:
    """``while True: pass`` in ``stop`` is ended within the deadlines: ask, insist, kill."""
    manifest = "limits = { stop = 0.1, kill_grace = 0.1 }"
    with workspace.run(hangs=plugin("def stop(self) -> None:\n    while True: pass", manifest=manifest)) as harness:
        assert harness.kernel.stop("hangs").state == "stopped"
        assert harness.kernel.start("hangs").state == "active"


def check_stop_waits_for_the_running_handler(workspace: Workspace) -> None:
    """A stop waits for a running handler, within its deadline."""
    body = """
    @on("work")
    def work(self) -> None:
        self.api.emit("out.begun")
        self.hold("go")
        self.api.emit("out.done")
    def stop(self) -> None:
        self.api.emit("out.stopped")
    """
    with workspace.run(slow=plugin(body)) as harness:
        harness.kernel.emit("work")
        harness.received("begun", 1)
        stopping = harness.in_background(harness.kernel.stop, "slow")
        harness.until_state("slow", "stopping")
        assert not harness.received("stopped")
        harness.release("go")
        assert stopping.result().state == "stopped"
        assert len(harness.received("done", 1)) == 1
        assert len(harness.received("stopped", 1)) == 1


_DRAINED = """
    {mark}
    {kind} work(self, n: int) -> None:
        if n == 0:
            self.hold("go")
        self.api.emit("out.worked", n=n)
        if n < 20:
            self.api.emit("work", n=n + 100)
    @expose
    def ping(self) -> str:
        return "pong"
    def stop(self) -> None:
        self.api.emit("out.stopped")
"""


def check_stop_handles_what_waits(workspace: Workspace) -> None:
    """Messages that are queued when the stop is decided are handled, then ``stop`` is called. Later events, also those
    of the plugin itself, are dead letters; later calls raise PluginNotActive."""
    kinds = {"plain": "def", "lazy": "async def"}
    sources = {name: plugin(_DRAINED.format(mark="@on('work')", kind=kind)) for name, kind in kinds.items()}
    for name, source in sources.items():
        with Workspace(workspace.level, workspace.folder / name).run(**{name: source}) as harness:
            for n in range(20):
                harness.kernel.emit("work", n=n)
            stopping = harness.in_background(harness.kernel.stop, name)
            harness.until_state(name, "stopping")
            harness.kernel.emit("work", n=20)
            assert expect_error(PluginNotActive, harness.call, f"{name}.ping").state == "stopping"
            assert not harness.received("stopped")
            harness.release("go")
            assert stopping.result().state == "stopped"
            assert {event["n"] for event in harness.received("worked", 20)} >= {*range(20)}
            assert len(harness.received("stopped", 1)) == 1
            late = [
                letter["data"]["n"] for letter in harness.until_dead_letters(1) if letter["reason"].endswith("stopping")
            ]
            assert 20 in late
            assert not {*range(20)} & {*late}
            assert harness.info(name).restarts == 0


@requires_native
def check_stop_handles_what_waits_on_several_threads(workspace: Workspace) -> None:
    """With ``concurrency`` too, a stop handles the queued messages first."""
    body = """
    @on("work")
    def work(self, n: int) -> None:
        if n < 2:
            self.hold("go")
        self.api.emit("out.worked", n=n)
    """
    with workspace.run(p=plugin(body, manifest="concurrency = 2")) as harness:
        for n in range(50):
            harness.kernel.emit("work", n=n)
        stopping = harness.in_background(harness.kernel.stop, "p")
        harness.until_state("p", "stopping")
        harness.release("go")
        assert stopping.result().state == "stopped"
        assert sorted(event["n"] for event in harness.received("worked", 50)) == [*range(50)]
        assert harness.kernel.dead_letters() == []


_HANGING = """
    @on("work")
    def work(self, n: int) -> None:
        self.api.emit("out.begun", n=n)
        while True:
            time.sleep(0.001)
"""


def check_a_drain_is_bounded(workspace: Workspace) -> None:
    """After ``limits.drain`` seconds, or at once with 0, with ``now``, or when another stop with ``now`` arrives, the
    plugin is stopped; messages that are not handled become dead letters."""
    ways = {"limit": 0.1, "none": 0, "now": 3600, "hurried": 3600}
    sources = {
        name: plugin(
            _HANGING.replace("work", name), manifest=f"limits = {{ drain = {drain}, stop = 0.1, kill_grace = 0.1 }}"
        )
        for name, drain in ways.items()
    }
    with workspace.run(**sources) as harness:
        for count, name in enumerate(sources, 1):
            for n in range(5):
                harness.kernel.emit(name, n=n)
            harness.received("begun", count)
            if name == "hurried":
                waiting = harness.in_background(harness.kernel.stop, name)
                harness.until_state(name, "stopping")
                harness.kernel.stop(name, now=True)
                assert waiting.result().state == "stopped"
            else:
                assert harness.kernel.stop(name, now=name == "now").state == "stopped", name
            letters = harness.until_dead_letters(5, name)
            assert sorted(letter["data"]["n"] for letter in letters) == [*range(5)]
            assert harness.kernel.start(name).state == "active"


def check_a_death_while_draining_is_an_end(workspace: Workspace) -> None:
    """A plugin that crashes while draining is not restarted: unhandled messages are dead letters, and callers get
    PluginDied."""
    body = """
    @on("work")
    def work(self, n: int) -> None:
        if n == 0:
            self.hold("go")
        if n == 3:
            sys.exit(3)
        self.api.emit("out.worked", n=n)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run(p=plugin(body)) as harness:
        for n in range(5):
            harness.kernel.emit("work", n=n)
        waiting = harness.in_background(harness.call, "p.ping")
        harness.until(lambda: harness.info("p").waiting == 6, "a call that waits")
        stopping = harness.in_background(harness.kernel.stop, "p")
        harness.until_state("p", "stopping")
        harness.release("go")
        info = stopping.result()
        assert (info.state, info.restarts) == ("stopped", 0)
        waiting.error(PluginDied)
        assert [letter["data"]["n"] for letter in harness.until_dead_letters(2)] == [3, 4]


@requires_native
def check_spawned_coroutines_clean_up(workspace: Workspace) -> None:
    """A spawned coroutine's ``finally`` is completed before ``stop`` is called; one that waits for an effect of
    ``stop`` causes no deadlock. Also without an event loop in the plugin."""
    tidy = """
    def start(self) -> None:
        self.api.spawn({what})
    def stop(self) -> None:
        self.api.emit("out.stopped", name=self.api.name)
    """
    coroutine = """
    async def {name}({parameters}) -> None:
        {api}.emit("out.running")
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(20):
                await asyncio.sleep(0.002)
            {api}.emit("out.tidied", name={api}.name)
    """
    own = tidy.format(what="self.run") + coroutine.format(name="run", parameters="self", api="self.api")
    alone = tidy.replace("{what}", "run, self.api")
    waits = """
    async def start(self) -> None:
        self.stopped = asyncio.Event()
        self.api.spawn(self.run)
    async def run(self) -> None:
        self.api.emit("out.running")
        try:
            await asyncio.sleep(3600)
        finally:
            await self.stopped.wait()
            self.api.emit("out.tidied", name=self.api.name)
    def stop(self) -> None:
        self.stopped.set()
        self.api.emit("out.stopped", name=self.api.name)
    """
    head = textwrap.dedent(coroutine.format(name="run", parameters="api", api="api"))
    sources = {
        "own": plugin(own),
        "alone": plugin(alone, head=head),
        "waits": plugin(waits, manifest="limits = { stop = 1.0 }"),
    }
    with workspace.run(**sources) as harness:
        harness.received("running", 3)
        for count, name in enumerate(sources, 1):
            assert harness.kernel.stop(name).state == "stopped"
            assert harness.received("tidied", count)[-1] == {"name": name}
            assert harness.received("stopped", count)[-1] == {"name": name}


def check_a_cancel_counts_while_a_stop_waits(workspace: Workspace) -> None:
    """An async method that a stop waits for is cancelled at its caller's deadline; then ``stop`` is called."""
    body = """
    @expose
    async def wait(self) -> None:
        self.api.emit("out.begun")
        try:
            await asyncio.sleep(3600)
        finally:
            self.api.emit("out.cancelled")
    def stop(self) -> None:
        self.api.emit("out.stopped")
    """
    with workspace.run(lazy=plugin(body, manifest="limits = { stop = 20.0 }")) as harness:
        waiting = harness.in_background(harness.call, "lazy.wait", timeout=1.0)
        harness.received("begun", 1)
        assert harness.kernel.stop("lazy").state == "stopped"
        assert len(harness.received("cancelled", 1)) == 1
        assert len(harness.received("stopped", 1)) == 1
        waiting.error(CallTimeout)


def check_stopped_means_deaf(workspace: Workspace) -> None:
    """All registrations are removed at a stop; the next start is the next generation."""
    body = """
    @on("x")
    def on_x(self) -> None:
        self.api.emit("out.x", generation=self.api.generation)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run(ear=plugin(body)) as harness:
        harness.kernel.stop("ear")
        harness.kernel.emit("x")
        assert expect_error(PluginNotActive, harness.call, "ear.ping").state == "stopped"
        assert harness.info("ear").topics == ()
        assert harness.info("ear").methods == {}
        assert harness.info("ear").pid is None
        assert harness.kernel.stop("ear").state == "stopped"  # idempotent
        harness.kernel.start("ear")
        harness.kernel.emit("x")
        assert harness.received("x", 1) == [{"generation": 2}]
        assert harness.kernel.dead_letters() == []
