"""Restarts: policies, budgets and backoff, and what waits for the next generation."""

from __future__ import annotations

from microkernel.errors import CallTimeout, PluginDied, PluginLoadError, PluginNotActive
from microkernel.testing.checks.deaths import QUICK
from microkernel.testing.harness import Workspace, expect_error, plugin


def check_a_restart_that_fails_is_tried_again(workspace: Workspace) -> None:
    """A ``start`` that raises in a restart counts as a crash; one that raises in the first start makes the plugin
    ``failed``."""
    body = """
    def start(self) -> None:
        if self.api.generation in (2, 3):
            raise ConnectionError("not yet")
        if self.api.name == "q":
            raise ConnectionError("never")
    @on("work")
    def work(self, n: int) -> None:
        self.api.emit("out.worked", n=n, generation=self.api.generation)
    @expose
    def leave(self) -> None:
        sys.exit(1)
    """
    with workspace.run(p=plugin(body, manifest=QUICK), q=plugin(body, manifest=QUICK)) as harness:
        assert harness.info("q").state == "failed"
        assert harness.info("q").generation == 1
        expect_error(PluginDied, harness.call, "p.leave")
        harness.kernel.emit("work", n=1)
        assert harness.received("worked", 1) == [{"n": 1, "generation": 4}]
        info = harness.until_state("p", "active")
        assert (info.generation, info.restarts, info.error) == (4, 3, None)


def check_restarts_that_fail_spend_the_budget(workspace: Workspace) -> None:
    """After too many failed restarts the plugin is quarantined, and the message says why it did not start."""
    body = """
    def start(self) -> None:
        if self.api.generation > 1:
            raise ConnectionError("never again")
    @expose
    def leave(self) -> None:
        sys.exit(1)
    """
    with workspace.run(p=plugin(body, manifest="supervision = { backoff = 0.01, intensity = 2 }")) as harness:
        expect_error(PluginDied, harness.call, "p.leave")
        info = harness.until_state("p", "quarantined")
        assert (info.generation, info.restarts, info.error_id) == (3, 2, "MK0205")
        assert "ConnectionError: never again" in (info.error or "")


LEAVER = """
    @expose
    def leave(self, code: int | None = None) -> None:
        sys.exit(code)
    @expose
    def ping(self) -> str:
        return "pong"
"""


def check_restart_policies(workspace: Workspace) -> None:
    """``permanent`` always restarts, ``transient`` after an abnormal exit, ``temporary`` never."""
    manifest = "supervision = {{ restart = {!r}, backoff = 0.01 }}"
    kinds = ("permanent", "transient", "temporary")
    sources = {kind: plugin(LEAVER, manifest=manifest.format(kind)) for kind in kinds}
    with workspace.run(**sources) as harness:
        for kind in kinds:
            expect_error(PluginDied, harness.call, f"{kind}.leave", 1)
        assert harness.call("permanent.ping") == "pong"
        assert harness.call("transient.ping") == "pong"
        assert harness.until_state("temporary", "stopped").restarts == 0
        expect_error(PluginDied, harness.call, "permanent.leave", 0)
        expect_error(PluginDied, harness.call, "transient.leave", 0)
        assert harness.call("permanent.ping") == "pong"
        assert harness.until_state("transient", "stopped").restarts == 1
        expect_error(PluginNotActive, harness.call, "transient.ping")


def check_a_spent_budget_is_quarantine(workspace: Workspace) -> None:
    """After more than ``intensity`` crashes in ``period`` there are no more restarts until a start with ``reset``."""
    manifest = "supervision = { intensity = 2, backoff = 0.01 }"
    body = f"""
    def start(self) -> None:
        if not self.api.get_data("mended"):
            sys.exit(1)
    {LEAVER}
    """
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        info = harness.until_state("p", "quarantined")
        assert (info.generation, info.restarts, info.error_id) == (3, 2, "MK0205")
        assert expect_error(PluginNotActive, harness.call, "p.ping").state == "quarantined"
        expect_error(PluginNotActive, harness.kernel.start, "p")
        harness.kernel.set_data("mended", True)
        assert harness.kernel.start("p", reset=True).state == "active"
        assert harness.call("p.ping") == "pong"


def check_stop_and_kill_in_backoff(workspace: Workspace) -> None:
    """A plugin that waits for a restart can be stopped, and does not restart."""
    manifest = "supervision = { backoff = 60.0, backoff_max = 60.0 }"
    with workspace.run(p=plugin(LEAVER, manifest=manifest), q=plugin(LEAVER, manifest=manifest)) as harness:
        for name in "pq":
            expect_error(PluginDied, harness.call, f"{name}.leave")
            harness.until_state(name, "backoff")
        assert harness.kernel.stop("p").state == "stopped"
        assert harness.kernel.kill("q").state == "stopped"
        assert harness.kernel.start("p").state == "active"


def check_calls_that_were_given_up_leave_nothing_at_a_stop(workspace: Workspace) -> None:
    """Calls that were given up while they waited for a plugin in backoff take no slots from later ones."""
    manifest = """
    limits = { mailbox = 2 }
    supervision = { backoff = 60 }
    """
    body = """
    @on("leave")
    def leave(self) -> None:
        raise SystemExit(1)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        harness.kernel.emit("leave")
        harness.until_state("p", "backoff")
        for _ in range(2):
            expect_error(CallTimeout, harness.call, "p.ping", timeout=0.01)
        harness.kernel.stop("p")
        harness.kernel.start("p")
        assert harness.call("p.ping") == "pong"


def check_subscriptions_and_waiting_events_outlive_a_death(workspace: Workspace) -> None:
    """Events and calls that arrive while a plugin is in backoff wait for its next generation."""
    body = """
    @expose
    def leave(self) -> None:
        sys.exit(1)
    @on("x")
    def hear(self, n: int) -> None:
        self.api.emit("out.heard", n=n, generation=self.api.generation)
    @expose
    def generation(self) -> int:
        return self.api.generation
    """
    with workspace.run(p=plugin(body, manifest="supervision = { backoff = 0.5 }")) as harness:
        expect_error(PluginDied, harness.call, "p.leave")
        harness.until_state("p", "backoff")
        for n in range(5):
            harness.kernel.emit("x", n=n)
        assert harness.call("p.generation") == 2
        assert harness.received("heard", 5) == [{"n": n, "generation": 2} for n in range(5)]


def check_a_start_that_ends_its_plugin_is_refused(workspace: Workspace) -> None:
    """``load`` and ``start`` raise if the plugin ends its own instance, whatever the supervisor does then."""
    body = """
    def __init__(self, api: PluginAPI) -> None:
        sys.exit(3)
    """
    manifest = 'supervision = { restart = "temporary" }'
    sources = {
        "__init__": plugin(body, manifest=manifest),
        "start": plugin(body.replace("__init__(self, api: PluginAPI)", "start(self)"), manifest=manifest),
        "import": plugin("", head="raise SystemExit(3)", manifest=manifest),
        "start, with success": plugin("def start(self) -> None: sys.exit()", manifest=manifest),
        "start, again": plugin("def start(self) -> None: sys.exit(3)", manifest="supervision = { backoff = 60 }"),
    }
    with workspace.run(p=plugin("")) as harness:
        for what, source in sources.items():
            harness.kernel.stop("p")
            workspace.write("p", source)
            assert "exit" in expect_error(PluginLoadError, harness.kernel.start, "p").text, what
            harness.until_state("p", "backoff" if what == "start, again" else "stopped")
        harness.kernel.stop("p")
        expect_error(PluginLoadError, harness.kernel.reload, "p")
        path = workspace.write("late", sources["start"])
        expect_error(PluginLoadError, harness.kernel.load, path)
        workspace.write("late", plugin(""))
        assert harness.kernel.start("late").state == "active"
