"""Kills: plugins that hang or wait are ended, by a request or at a deadline, with the processes that they started."""

from __future__ import annotations

import os

from microkernel.errors import PluginDied
from microkernel.testing.harness import Workspace, plugin
from microkernel.testing.levels import only_at, requires_native

RUNAWAY = plugin(
    """
    @on("run")
    def run(self) -> None:
        self.api.emit("out.running")
        while True: pass
    @expose
    def run_too(self) -> None:
        self.api.emit("out.running")
        while True: pass
    @expose
    def ping(self) -> str:
        return "pong"
    """
)


def check_a_runaway_can_be_killed(workspace: Workspace) -> None:
    """``while True: pass`` in a handler or method can be killed: the plugin is stopped without a restart, and callers
    get an error."""
    with workspace.run(p=RUNAWAY) as harness:
        harness.kernel.emit("run")
        harness.received("running", 1)
        waiting = harness.in_background(harness.call, "p.ping", timeout=25.0)
        harness.until(lambda: harness.info("p").waiting >= 2, "a call that waits")
        info = harness.kernel.kill("p")
        assert (info.state, info.restarts, info.pid) == ("stopped", 0, None)
        assert waiting.error(PluginDied).name == "p"
        harness.kernel.start("p")
        waiting = harness.in_background(harness.call, "p.run_too", timeout=25.0)
        harness.received("running", 2)
        assert harness.kernel.kill("p").state == "stopped"
        assert waiting.error(PluginDied).name == "p"
        assert harness.kernel.start("p").generation == 3
        assert harness.call("p.ping") == "pong"


def check_others_go_on_beside_a_runaway(workspace: Workspace) -> None:
    """While one plugin spins, another answers, and the kernel lists both."""
    with workspace.run(p=RUNAWAY, q=RUNAWAY) as harness:
        harness.kernel.emit("nothing")
        spinning = harness.in_background(harness.call, "p.run_too", timeout=25.0)
        harness.received("running", 1)
        assert harness.call("q.ping") == "pong"
        assert {info.name: info.state for info in harness.kernel.list()} == {"p": "active", "q": "active"}
        harness.kernel.kill("p")
        spinning.error(PluginDied)
        assert harness.call("q.ping") == "pong"


def check_a_handler_past_its_deadline_is_ended(workspace: Workspace) -> None:
    """After ``limits.handler`` seconds the instance is ended as a crash, and the next generation continues."""
    manifest = """
    limits = { handler = 0.3, kill_grace = 0.2 }
    supervision = { backoff = 0.01 }
    """
    body = """
    @on("run")
    def run(self, event) -> None:
        if event.delivery == 1:
            while True: pass
        self.api.emit("out.again", delivery=event.delivery)
    """
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        harness.kernel.emit("run")
        assert harness.received("again", 1) == [{"delivery": 2}]
        assert harness.until_state("p", "active").restarts == 1


@requires_native
def check_a_handler_that_hangs_beside_others_is_ended(workspace: Workspace) -> None:
    """With ``concurrency``, a handler that hangs is ended even if others finish all the time."""
    manifest = """
    concurrency = 2
    limits = { handler = 0.3, kill_grace = 0.2 }
    supervision = { backoff = 0.01, intensity = 1000 }
    """
    body = """
    @on("run")
    def run(self, event) -> None:
        if event.delivery == 1:
            while True: pass
        self.api.emit("out.again", delivery=event.delivery)
    @on("tick")
    def tick(self) -> None: ...
    """

    def ticked() -> bool:
        harness.kernel.emit("tick")
        return bool(harness.received("again"))

    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        harness.kernel.emit("run")
        harness.until(ticked, "the hung handler is given up while others finish")
        assert harness.received("again", 1) == [{"delivery": 2}]


def check_a_busy_plugin_is_not_taken_for_a_silent_one(workspace: Workspace) -> None:
    """The handler deadline applies to handlers without progress: calls that always overlap are not treated as
    silence."""
    body = """
    @expose
    async def brief(self) -> None:
        await asyncio.sleep(0.03)
    """
    relay = """
    @expose
    async def fire(self, times: int) -> None:
        for _ in range(times):
            await self.api.acall("p.brief", timeout=20)
    """
    with workspace.run(p=plugin(body, manifest="limits = { handler = 0.3 }"), relay=plugin(relay)) as harness:

        def fire() -> None:
            for _ in range(40):
                harness.call("p.brief")

        under_way = [harness.in_background(fire) for _ in range(3)]
        under_way += [harness.in_background(harness.call, "relay.fire", 40) for _ in range(2)]
        for one in under_way:
            one.result()
        assert harness.info("p").restarts == 0


def check_who_waits_for_an_answer_can_be_killed(workspace: Workspace) -> None:
    """A plugin that waits in ``call``, ``ask``, ``acall`` or ``sleep`` can be killed."""
    body = """
    @expose
    def busy(self) -> None:
        self.hold("never")
    @on("question")
    def answer(self) -> None:
        self.hold("never")
    """
    waiter = """
    @on("call")
    def call(self) -> None:
        self.api.emit("out.waiting")
        self.api.call("busy.busy", timeout=3600)
    @on("ask")
    def ask(self) -> None:
        self.api.emit("out.waiting")
        self.api.ask("question", timeout=3600)
    @on("sleep")
    def sleep(self) -> None:
        self.api.emit("out.waiting")
        self.api.sleep(3600)
    """
    lazy = """
    @on("acall")
    async def acall(self) -> None:
        self.api.emit("out.waiting")
        await self.api.acall("busy.busy", timeout=3600)
    """
    with workspace.run(busy=plugin(body), waiter=plugin(waiter), lazy=plugin(lazy)) as harness:
        for count, (name, topic) in enumerate(
            (("waiter", "call"), ("waiter", "ask"), ("waiter", "sleep"), ("lazy", "acall")), 1
        ):
            harness.kernel.emit(topic)
            harness.received("waiting", count)
            assert harness.kernel.kill(name).state == "stopped", topic
            harness.kernel.start(name)
        harness.kernel.kill("busy")


@only_at("process")
def check_what_a_plugin_started_ends_with_it(workspace: Workspace) -> None:
    """A child, and a grandchild that has detached itself, are gone when the kill is done. (A confined plugin starts
    none.)"""
    body = """
    @expose
    def begin(self) -> list:
        import subprocess
        daemon = "import os, time; os.setsid(); os.fork() or time.sleep(3600); time.sleep(3600)"
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        other = subprocess.Popen([sys.executable, "-c", daemon])
        return [os.getpid(), child.pid, other.pid]
    """
    with workspace.run(p=plugin(body)) as harness:
        pids = harness.call("p.begin")
        assert all(_is_alive(pid) for pid in pids)
        assert os.getpid() not in pids
        harness.kernel.kill("p")
        assert [pid for pid in pids if _is_alive(pid)] == []


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
