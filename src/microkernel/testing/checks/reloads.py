"""Reload: the new code takes over with state, subscriptions and queued messages, or the old one keeps running."""

from __future__ import annotations

from functools import partial

from microkernel.errors import KernelError, PluginDied, ReloadFailed
from microkernel.kernel.registry.record import PluginRecord
from microkernel.testing.harness import KernelHarness, Workspace, expect_error, plugin
from microkernel.testing.levels import requires_native

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


def _refused_reload(harness: KernelHarness, source: str) -> ReloadFailed:
    harness.workspace.write("p", source)
    return expect_error(ReloadFailed, harness.kernel.reload, "p")


def check_a_broken_reload_keeps_the_old(workspace: Workspace) -> None:
    """An error in syntax, import, ``__init__``, ``start``, ``import_state`` or manifest raises ReloadFailed; the old
    source continues with its state."""
    with workspace.run(p=counter()) as harness:
        harness.kernel.emit("hit")
        for what, source in BROKEN.items():
            error = _refused_reload(harness, source)
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
            _refused_reload(harness, BROKEN[what])
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


NOT_EXPORTED = {
    "raises": "raise ValueError('not now')",
    "half a character": "return {'text': '\\ud800'}",
    "an object": "return {'deep': [object()]}",
    "too large": "return bytes(17 << 20)",
    "itself": "state = []; state.append(state); return state",
}


def _exporting(how: str, more: str = "", manifest: str = "") -> str:
    """Return a counter whose first ``export_state`` fails in this way."""
    define = "async def" if "await" in how else "def"
    failing = f"""
    failed = False
    {define} export_state(self) -> Any:
        if not self.failed and self.api.version == "1.0":
            self.failed = True
            {how}
        return {{"count": self.count}}
    """
    return plugin(COUNTER + failing + more, manifest=f'version = "1.0"\n{manifest}')


def check_a_state_that_cannot_be_exported_keeps_the_old(workspace: Workspace) -> None:
    """The same instance continues, with its state, spawned work and timers; the next reload succeeds."""
    more = """
    def start(self) -> None:
        self.api.spawn(self.work)
    def work(self) -> None:
        while self.api.active: time.sleep(0.001)
        self.api.emit("out.ended")
    @every(0.01)
    def beat(self) -> None:
        self.api.emit("out.beat", generation=self.api.generation)
    """
    if workspace.level == "wasm":  # there are no threads
        more = more.replace("self.api.spawn(self.work)", "pass")
    for what, how in NOT_EXPORTED.items():
        with Workspace(workspace.level, workspace.folder / what.replace(" ", "-")).run(
            p=_exporting(how, more)
        ) as harness:
            harness.kernel.emit("hit")
            error = _refused_reload(harness, counter(version="2.0"))
            assert (error.id, error.report.error.id) == ("MK0305", "MK0311" if what == "raises" else "MK0312"), what
            assert (error.report.generation, error.report.version) == (harness.info("p").generation, "1.0"), what
            assert harness.call("p.hits") == 1, what
            info = harness.info("p")
            assert (info.state, info.version, info.restarts, info.generation) == ("active", "1.0", 0, 2), what
            before = len(harness.received("beat"))
            harness.received("beat", before + 2)
            assert harness.received("ended") == []
            harness.kernel.emit("hit")
            assert harness.received("hit", 2)[1]["generation"] == 1
            assert harness.kernel.reload("p").version == "2.0"
            assert harness.call("p.hits") == 2, what
            assert harness.kernel.dead_letters() == []


def _waits(record: PluginRecord, count: int) -> bool:
    return len(record.mailbox) >= count


def check_what_waits_outlives_a_state_that_cannot_be_exported(workspace: Workspace) -> None:
    """Events and calls that arrived meanwhile, queued in the instance or in the kernel, are handled by it, in order."""
    holding = """
    @on("held")
    def held(self) -> None:
        self.api.emit("out.held")
        self.hold("go")
    """
    for how in NOT_EXPORTED["raises"], "await asyncio.sleep(0); raise ValueError('not now')":
        with Workspace(workspace.level, workspace.folder / str(len(how))).run(p=_exporting(how, holding)) as harness:
            harness.kernel.emit("held")
            harness.received("held", 1)
            for n in range(10):
                harness.kernel.emit("hit", n=n)
            record = harness.kernel.core.registry.get("p")
            harness.until(partial(_waits, record, 11), "all of them waiting")
            reloading = harness.in_background(_refused_reload, harness, counter(version="2.0"))
            harness.until(partial(getattr, record.mailbox, "paused"), "a paused mailbox")
            for n in range(10, 20):
                harness.kernel.emit("hit", n=n)
            waiting = [harness.in_background(harness.call, "p.hits") for _ in range(3)]
            harness.release("go")
            assert reloading.result().id == "MK0305"
            assert [one.result() for one in waiting] == [20] * 3
            assert [event["n"] for event in harness.received("hit", 20)] == list(range(20))
            assert {event["generation"] for event in harness.received("hit")} == {1}
            assert harness.kernel.dead_letters() == []


@requires_native
def check_handlers_on_threads_go_on_after_a_state_that_cannot_be_exported(workspace: Workspace) -> None:
    """With ``concurrency``, the instance has its threads again."""
    with workspace.run(p=_exporting(NOT_EXPORTED["raises"], manifest="concurrency = 3")) as harness:
        harness.kernel.emit("hit")
        assert harness.call("p.hits") == 1
        _refused_reload(harness, counter(version="2.0"))
        assert [harness.in_background(harness.call, "p.hits").result() for _ in range(5)] == [1] * 5
        assert harness.kernel.reload("p").version == "2.0"
        assert harness.call("p.hits") == 1


def check_an_export_that_hangs_in_an_event_loop_keeps_the_old(workspace: Workspace) -> None:
    """An async export that hangs is cancelled at ``limits.stop``."""
    with workspace.run(p=_exporting("await asyncio.sleep(3600)", manifest="limits = { stop = 0.2 }")) as harness:
        harness.kernel.emit("hit")
        error = _refused_reload(harness, counter(version="2.0"))
        assert (error.id, error.report.error.kind) == ("MK0305", "TimeoutError")
        assert harness.call("p.hits") == 1
        assert harness.info("p").version == "1.0"


def check_an_export_that_hangs_or_ends_its_instance_starts_the_old_source(workspace: Workspace) -> None:
    """The state is lost, and the report says so; queued messages are not lost."""
    for how in "while True: pass", "sys.exit(3)":
        source = _exporting(how, manifest="limits = { stop = 0.2, kill_grace = 0.2 }")
        with Workspace(workspace.level, workspace.folder / str(len(how))).run(p=source) as harness:
            harness.kernel.emit("hit")
            error = _refused_reload(harness, counter(version="2.0"))
            assert (error.id, error.report.error.id) == ("MK0314", "MK0313")
            assert (harness.info("p").version, harness.info("p").state) == ("1.0", "active")
            assert harness.call("p.hits") in (0, 1)  # the hit was handled, or will be by the next instance
            assert harness.kernel.dead_letters() == []


def check_a_stop_that_fails_does_not_lose_the_state(workspace: Workspace) -> None:
    """The state was exported before ``stop`` failed, so the new source has it."""
    for how in "raise ValueError", "sys.exit(3)", "while True: pass":
        source = counter(f"    def stop(self) -> None:\n        {how}")
        source = source.replace("limits = { start = 5.0 }", "limits = { stop = 0.2, kill_grace = 0.2 }")
        with Workspace(workspace.level, workspace.folder / str(len(how))).run(p=source) as harness:
            harness.kernel.emit("hit")
            assert harness.call("p.hits") == 1
            harness.workspace.write("p", counter(version="2.0"))
            assert harness.kernel.reload("p").version == "2.0"
            assert harness.call("p.hits") == 1, how
