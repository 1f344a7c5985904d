"""Exports of state at a reload that fail, and a stop that fails after one."""

from __future__ import annotations

from functools import partial

from microkernel.kernel.registry.record import PluginRecord
from microkernel.testing.checks.reloads import COUNTER, counter, refused_reload
from microkernel.testing.harness import Workspace, plugin
from microkernel.testing.levels import requires_native

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
            error = refused_reload(harness, counter(version="2.0"))
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
            reloading = harness.in_background(refused_reload, harness, counter(version="2.0"))
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
        refused_reload(harness, counter(version="2.0"))
        assert [harness.in_background(harness.call, "p.hits").result() for _ in range(5)] == [1] * 5
        assert harness.kernel.reload("p").version == "2.0"
        assert harness.call("p.hits") == 1


def check_an_export_that_hangs_in_an_event_loop_keeps_the_old(workspace: Workspace) -> None:
    """An async export that hangs is cancelled at ``limits.stop``."""
    with workspace.run(p=_exporting("await asyncio.sleep(3600)", manifest="limits = { stop = 0.2 }")) as harness:
        harness.kernel.emit("hit")
        error = refused_reload(harness, counter(version="2.0"))
        assert (error.id, error.report.error.kind) == ("MK0305", "TimeoutError")
        assert harness.call("p.hits") == 1
        assert harness.info("p").version == "1.0"


def check_an_export_that_hangs_or_ends_its_instance_starts_the_old_source(workspace: Workspace) -> None:
    """The state is lost, and the report says so; queued messages are not lost."""
    for how in "while True: pass", "sys.exit(3)":
        source = _exporting(how, manifest="limits = { stop = 0.2, kill_grace = 0.2 }")
        with Workspace(workspace.level, workspace.folder / str(len(how))).run(p=source) as harness:
            harness.kernel.emit("hit")
            error = refused_reload(harness, counter(version="2.0"))
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
