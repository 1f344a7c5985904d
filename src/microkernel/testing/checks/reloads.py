"""Reload: the new code takes over with state, subscriptions and queued messages, or the old one keeps running."""

from __future__ import annotations

from microkernel.errors import KernelError, ReloadFailed
from microkernel.testing.harness import KernelHarness, Workspace, expect_error, plugin

COUNTER = """
    count = 0
    @on("hit")
    def hit(self, n: int = 0) -> None:
        self.count += 1
        self.api.emit("out.hit", n=n, generation=self.api.generation, version=self.api.version)
    @expose
    def hits(self) -> int:
        return self.count
    def export_state(self) -> dict:
        return {"count": self.count}
    def import_state(self, state: Any, from_version: str) -> None:
        self.count = state["count"]
        self.api.emit("out.imported", from_version=from_version)
"""


def counter(more: str = "", *, version: str = "1.0", head: str = "") -> str:
    return plugin(COUNTER + more, head=head, manifest=f'version = "{version}"\nlimits = {{ start = 5.0 }}')


def check_state_goes_over_a_reload(workspace: Workspace) -> None:
    """The old ``export_state`` is passed to the new ``import_state`` before ``start``; the report has the new
    generation and version."""
    with workspace.run(p=counter()) as harness:
        for _ in range(3):
            harness.kernel.emit("hit")
        workspace.write("p", counter("    @expose\n    def new(self) -> str:\n        return 'new'", version="2.0"))
        report = harness.kernel.reload("p")
        assert (report.plugin, report.generation, report.version, report.error) == ("p", 2, "2.0", None)
        assert report.leaked == []
        assert report.paused_ms >= 0
        assert harness.received("imported", 1) == [{"from_version": "1.0"}]
        assert harness.call("p.hits") == 3
        assert harness.call("p.new") == "new"
        info = harness.info("p")
        assert (info.version, info.generation, info.restarts, info.state) == ("2.0", 2, 0, "active")
        harness.kernel.emit("hit", n=9)
        assert harness.received("hit", 4)[3] == {"n": 9, "generation": 2, "version": "2.0"}


BROKEN = {
    "syntax": "def (:\n",
    "import": counter(head="import no_such_module_anywhere", version="2.0"),
    "import_raises": counter(head="raise RuntimeError('at import')", version="2.0"),
    "no_plugin": "x = 1\n",
    "init": counter("    def __init__(self, api) -> None:\n        raise KeyError('init')", version="2.0"),
    "start": counter("    def start(self) -> None:\n        raise KeyError('start')", version="2.0"),
    "start_exits": counter("    def start(self) -> None:\n        sys.exit(1)", version="2.0"),
    "import_state": counter("    def import_state(self, s, v) -> None:\n        raise KeyError('old')", version="2.0"),
    "manifest": counter(version="2.0").replace("version =", "verzion ="),
}


def refused_reload(harness: KernelHarness, source: str) -> ReloadFailed:
    """Reload plugin ``p`` with this source; return the error, which is required."""
    harness.workspace.write("p", source)
    return expect_error(ReloadFailed, harness.kernel.reload, "p")


def check_a_broken_reload_keeps_the_old(workspace: Workspace) -> None:
    """An error in syntax, import, ``__init__``, ``start``, ``import_state`` or manifest raises ReloadFailed; the old
    source continues with its state."""
    with workspace.run(p=counter()) as harness:
        harness.kernel.emit("hit")
        for what, source in BROKEN.items():
            error = refused_reload(harness, source)
            assert isinstance(error.report.error, KernelError), what
            assert (error.report.plugin, error.report.version) == ("p", "1.0"), what
            assert error.report.generation == harness.info("p").generation, what
            assert harness.call("p.hits") == 1, what
            info = harness.info("p")
            assert (info.state, info.version, info.restarts) == ("active", "1.0", 0), what
            harness.kernel.emit("hit", n=1)
            assert harness.call("p.hits") == 2, what
            harness.kernel.stop("p")  # back to one hit: the state does not survive a stop
            workspace.write("p", counter())
            harness.kernel.start("p")
            harness.kernel.emit("hit")
        assert harness.kernel.dead_letters() == []


def check_before_the_old_is_stopped_it_never_notices(workspace: Workspace) -> None:
    """A failure up to ``__init__`` does not touch the old instance: the same generation, the same thread."""
    with workspace.run(p=counter()) as harness:
        for what in ("syntax", "import", "import_raises", "no_plugin", "init", "manifest"):
            refused_reload(harness, BROKEN[what])
            assert harness.call("p.hits") == 0
        harness.kernel.emit("hit")
        assert harness.received("hit", 1)[0]["generation"] == 1


HELD = (
    COUNTER
    + """
    @on("held")
    def held(self) -> None:
        self.api.emit("out.held")
        self.hold("go")
"""
)


def check_waiting_messages_outlive_a_reload(workspace: Workspace) -> None:
    """Events and calls are queued while the reload waits for a running handler; the new generation handles them in
    order."""
    with workspace.run(p=plugin(HELD)) as harness:
        harness.kernel.emit("held")
        harness.received("held", 1)
        reloading = harness.in_background(harness.kernel.reload, "p")
        harness.until(lambda: harness.kernel.core.registry.get("p").mailbox.paused, "a paused mailbox")
        for n in range(20):
            harness.kernel.emit("hit", n=n)
        waiting = harness.in_background(harness.call, "p.hits")
        harness.until(lambda: harness.info("p").waiting >= 22, "all of them waiting")
        harness.release("go")
        assert reloading.result().generation == 2
        assert waiting.result() == 20
        assert [(event["n"], event["generation"]) for event in harness.received("hit", 20)] == [
            (n, 2) for n in range(20)
        ]
        assert harness.kernel.dead_letters() == []


def check_waiting_messages_outlive_a_broken_reload(workspace: Workspace) -> None:
    """If the new code does not start, the old source handles the queued messages."""
    with workspace.run(p=plugin(HELD)) as harness:
        harness.kernel.emit("held")
        harness.received("held", 1)
        workspace.write("p", plugin(HELD + "\n    def start(self) -> None:\n        raise KeyError('new')"))
        reloading = harness.in_background(harness.kernel.reload, "p")
        harness.until(lambda: harness.kernel.core.registry.get("p").mailbox.paused, "a paused mailbox")
        for n in range(20):
            harness.kernel.emit("hit", n=n)
        waiting = harness.in_background(harness.call, "p.hits")
        harness.until(lambda: harness.info("p").waiting >= 22, "all of them waiting")
        harness.release("go")
        assert "KeyError" in str(reloading.error(ReloadFailed))
        assert waiting.result() == 20
        assert [event["n"] for event in harness.received("hit", 20)] == list(range(20))


def check_what_is_queued_at_the_instance_outlives_a_reload(workspace: Workspace) -> None:
    """Events and calls that were sent to the instance, but not started when the stop was requested, are handled by the
    next one."""
    body = (
        HELD
        + """
    @on("nap")
    def nap(self) -> None:
        self.api.emit("out.nap")
        self.hold("queued")
        self.api.sleep(3600)
    """
    )
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("nap")
        harness.received("nap", 1)
        for n in range(10):
            harness.kernel.emit("hit", n=n)
        waiting = [harness.in_background(harness.call, "p.hits", timeout=20.0) for _ in range(3)]
        harness.until(lambda: harness.info("p").waiting >= 14, "all of them given")
        harness.release("queued")
        harness.kernel.reload("p")
        assert [event["n"] for event in harness.received("hit", 10)] == list(range(10))
        assert [one.result() for one in waiting] == [10] * 3  # first in, first out: they came after the events


def check_what_the_new_one_does_not_handle_is_a_dead_letter(workspace: Workspace) -> None:
    """Queued events of a subscription that the next generation lacks become dead letters."""
    with workspace.run(p=plugin(HELD)) as harness:
        harness.kernel.emit("held")
        harness.received("held", 1)
        workspace.write("p", plugin("@expose\ndef ping(self) -> str:\n    return 'pong'"))
        reloading = harness.in_background(harness.kernel.reload, "p")
        harness.until(lambda: harness.kernel.core.registry.get("p").mailbox.paused, "a paused mailbox")
        harness.kernel.emit("hit", n=1)
        harness.release("go")
        reloading.result()
        (letter,) = harness.until_dead_letters(1)
        assert (letter["topic"], letter["data"]) == ("hit", {"n": 1})
        assert harness.call("p.ping") == "pong"
        assert harness.info("p").topics == ()
        harness.kernel.emit("hit", n=2)
        assert harness.call("p.ping") == "pong"
        assert len(harness.kernel.dead_letters()) == 1


def check_reload_of_what_does_not_run_starts_it(workspace: Workspace) -> None:
    """Reloading a stopped or failed plugin starts its current source."""
    with workspace.run(p=plugin("1 / 0"), q=counter()) as harness:
        assert harness.info("p").state == "failed"
        workspace.write("p", counter())
        assert harness.kernel.reload("p").error is None
        assert harness.call("p.hits") == 0
        harness.kernel.stop("q")
        assert harness.kernel.reload("q").generation == 2
        assert harness.info("q").state == "active"


def check_source_is_a_snapshot(workspace: Workspace) -> None:
    """A restart after a crash runs the code that was loaded, not the current file."""
    body = """
    @expose
    def leave(self) -> None:
        sys.exit(1)
    @expose
    def version(self) -> str:
        return "old"
    """
    manifest = "supervision = { backoff = 0.01 }"
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        workspace.write("p", plugin(body.replace('"old"', '"new"'), manifest=manifest))
        try:
            harness.call("p.leave")
        except KernelError:
            harness.until(lambda: harness.info("p").generation == 2, "generation 2")
        assert harness.call("p.version") == "old"
        harness.kernel.reload("p")
        assert harness.call("p.version") == "new"


TURNS = """
    def __init__(self, api: PluginAPI) -> None:
        turned = api.data_dir / "turned"
        if turned.exists():
            turned.unlink()
            %s
"""


NEVER_STARTS = """
    def __init__(self, api: PluginAPI) -> None:
        (api.data_dir / "turned").touch()
    def start(self) -> None:
        1 / 0
"""


def check_an_old_source_that_fails_too_has_failed(workspace: Workspace) -> None:
    """If the old source fails too, the plugin is failed and says so; it can be started again."""
    old = plugin(TURNS % "1 / 0")
    with workspace.run(p=old) as harness:
        workspace.write("p", plugin(NEVER_STARTS))
        expect_error(ReloadFailed, harness.kernel.reload, "p")
        assert harness.info("p").state == "failed"
        workspace.write("p", old)
        assert harness.kernel.start("p").state == "active"


def check_an_old_source_that_dies_comes_back(workspace: Workspace) -> None:
    """A crash while a reload rolls back is handled like any crash."""
    with workspace.run(p=plugin(TURNS % "raise SystemExit(1)")) as harness:
        workspace.write("p", plugin(NEVER_STARTS))
        expect_error(ReloadFailed, harness.kernel.reload, "p")
        assert harness.until_state("p", "active").restarts == 1
