"""Unresponsive plugins are found and named; groups restart together; a new version runs on probation first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.errors import KernelError, PluginDied, ReloadFailed
from microkernel.kernel.config import Group
from microkernel.kernel.lifecycle.launcher import Launcher
from tests.security.attacks.support import Plugins, eventually, state_is

BOTH = pytest.mark.parametrize("level", ["thread", "process"])
QUICK = {"drain": 0.1, "stop": 0.3, "kill_grace": 0.3, "heartbeat": 0.05}
STUCK = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        {start}
    def stop(self): pass
    @expose
    def total(self, begun: str):
        open(begun, "w").close()
        self.deep()
    def deep(self):
        while True: pass
"""


class Told:
    """What the kernel said of its plugins."""

    def __init__(self, kernel: Kernel) -> None:
        self.messages: list[tuple[str, str, str]] = []
        kernel.on("kernel.message", lambda id, plugin, text: self.messages.append((id, plugin, text)), inline=True)

    def of(self, id: str) -> list[tuple[str, str]]:
        return [(plugin, text) for told, plugin, text in self.messages if told == id]

    def wait_for(self, id: str) -> tuple[str, str]:
        return eventually(lambda: self.of(id), f"{id} is told")[0]


def died_over(kernel: Kernel, begun: Path) -> None:
    with pytest.raises(PluginDied):
        kernel.call("billing.total", str(begun), timeout=50)


@BOTH
def test_a_stuck_handler_is_named_with_its_line(plugins: Plugins, level: str, tmp_path: Path) -> None:
    plugins.add("billing", STUCK.format(start="pass"), limits={**QUICK, "handler": 0.4})
    with plugins.kernel(level) as kernel:
        told = Told(kernel)
        with pytest.raises(PluginDied, match=r"silent for [\d.]+ s in billing.total\(\), billing.py:\d+ in deep"):
            kernel.call("billing.total", str(tmp_path / "begun"), timeout=50)
        plugin, text = told.wait_for("MK0207")
        assert plugin == "billing"
        assert "in deep `while True: pass` → restarting" in text
        eventually(lambda: kernel.info("billing").generation == 2)
        assert kernel.core.registry.get("billing").restarts == 1
        last = state_is(kernel, "billing", "active").last_death
        assert "silent for" in last["reason"]
        assert (" in deep" in last["stack"], " in total" in last["stack"]) == (True, True), "the whole stack is kept"


def test_a_stuck_plugin_that_is_quarantined_keeps_its_stack(plugins: Plugins, tmp_path: Path) -> None:
    plugins.add("billing", STUCK.format(start="pass"), limits={**QUICK, "handler": 0.3}, supervision={"intensity": 0})
    with plugins.kernel() as kernel:
        with pytest.raises(PluginDied):
            kernel.call("billing.total", str(tmp_path / "begun"), timeout=50)
        info = state_is(kernel, "billing", "quarantined")
        assert "in deep" in info.traceback
        assert kernel.start("billing", reset=True).state == "active"


@pytest.mark.parametrize("busy", [False, True])
def test_stopped_process_is_reported_as_stopped(plugins: Plugins, busy: bool, tmp_path: Path) -> None:
    plugins.add("billing", STUCK.format(start="pass"), limits={**QUICK, "handler": 1000})
    with plugins.kernel() as kernel:
        told, begun = Told(kernel), tmp_path / "begun"
        if busy:
            calling = threading.Thread(target=lambda: died_over(kernel, begun))
            calling.start()
            eventually(begun.exists)
        pid = kernel.info("billing").pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        assert "its process is stopped (SIGSTOP)" in told.wait_for("MK0207")[1]
        eventually(lambda: kernel.info("billing").generation == 2)
        state_is(kernel, "billing", "active")
        if busy:
            calling.join(30)


@BOTH
def test_blocked_timer_is_found_by_the_heartbeat(plugins: Plugins, level: str) -> None:
    """A timer blocks the main thread: no event and no call is under way."""
    start = "if self.api.generation == 1: self.api.after(0.01, self.deep)"
    plugins.add("billing", STUCK.format(start=start), limits={**QUICK, "handler": 0.4})
    with plugins.kernel(level) as kernel:
        told = Told(kernel)
        text = told.wait_for("MK0207")[1]
        assert "in work that is no handler, billing.py" in text
        assert "in deep" in text
        eventually(lambda: kernel.info("billing").generation == 2)


@BOTH
def test_idle_or_slow_plugin_within_its_deadline_is_not_restarted(plugins: Plugins, level: str) -> None:
    plugins.healthy(limits={"heartbeat": 0.01})
    plugins.add("slow", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): self.api.every(0.001, self.beat)
            def stop(self): pass
            def beat(self): time.sleep(0.05)
            @expose
            def wait(self): time.sleep(0.3); return True
    """, limits={"heartbeat": 0.01})  # fmt: skip
    with plugins.kernel(level) as kernel:
        for _ in range(3):
            assert kernel.call("slow.wait", timeout=30)
        assert kernel.call("healthy.answer") == 42
        assert {info.generation for info in kernel.list()} == {1}


# Groups

MEMBER = """
class Plugin(IPlugin):
    def __init__(self, api): self.api, self.seen = api, []
    def start(self): pass
    def stop(self): self.api.emit("group.stopped", name=self.api.name)
    @on("group.note")
    def note(self): self.api.emit("group.noted", name=self.api.name)
    @expose
    def answer(self): return self.api.generation
    @expose
    def die(self): os.kill(os.getpid(), signal.SIGKILL)
"""


def trio(plugins: Plugins, strategy: str, **tables: object) -> Kernel:
    for name in ("db", "cache", "web"):
        plugins.add(name, MEMBER, **tables)
    group = Group(strategy, ("db", "cache", "web"))  # type: ignore[arg-type]
    return plugins.kernel(config=KernelConfig(group={"trio": group}, data_dir=str(plugins.folder.parent / "data")))


@pytest.mark.parametrize(
    ("strategy", "restarted"), [("one_for_one", {"cache"}), ("one_for_all", {"db", "cache", "web"}),
                                ("rest_for_one", {"cache", "web"})],
)  # fmt: skip
def test_a_group_restarts_together(plugins: Plugins, strategy: str, restarted: set[str]) -> None:
    with trio(plugins, strategy) as kernel:
        stopped: list[str] = []
        noted: list[str] = []
        kernel.on("group.stopped", lambda name: stopped.append(name))
        kernel.on("group.noted", lambda name: noted.append(name))
        with pytest.raises(PluginDied):
            kernel.call("cache.die")
        kernel.emit("group.note")
        for name in ("db", "cache", "web"):
            expected = 2 if name in restarted else 1
            eventually(lambda n=name, g=expected: kernel.info(n).generation == g, f"{name} is at generation {expected}")
            state_is(kernel, name, "active")
        eventually(lambda: sorted(noted) == ["cache", "db", "web"], "what was sent meanwhile reached each once")
        eventually(lambda: {*stopped} == restarted - {"cache"}, "the others were asked to stop")
        assert stopped == sorted(stopped, key=("web", "cache", "db").index)
        assert all(kernel.core.registry.get(name).history == () for name in restarted - {"cache"})


def test_quarantined_member_stops_the_members_that_follow_it(plugins: Plugins) -> None:
    with trio(plugins, "rest_for_one", supervision={"intensity": 0}) as kernel:
        with pytest.raises(PluginDied):
            kernel.call("cache.die")
        state_is(kernel, "cache", "quarantined")
        assert state_is(kernel, "web", "stopped").error_id == "MK0223"
        assert kernel.info("db").state == "active"
        kernel.start("cache", reset=True)
        assert kernel.start("web").state == "active"


def test_group_restarts_after_simultaneous_crashes(plugins: Plugins) -> None:
    with trio(plugins, "one_for_all") as kernel:
        for pid in [info.pid for info in kernel.list()]:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        for name in ("db", "cache", "web"):
            eventually(lambda n=name: kernel.info(n).generation > 1)
            state_is(kernel, name, "active")
            assert kernel.call(f"{name}.answer", timeout=30) > 1


def test_restart_storm_does_not_affect_other_plugins(plugins: Plugins) -> None:
    """Another is called and answers, without a death, all the time."""
    plugins.add("storm", """
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): threading.Timer(0.001, os._exit, [1]).start()
            def stop(self): pass
    """, supervision={"intensity": 100000, "backoff": 0.001, "backoff_max": 0.002})  # fmt: skip
    plugins.healthy()
    with plugins.kernel() as kernel:
        eventually(lambda: kernel.call("healthy.answer", timeout=30) == 42 and kernel.info("storm").generation >= 30)
        assert kernel.info("healthy").generation == 1
        kernel.kill("storm")


def in_order(plugins: Plugins, strategy: str, names: tuple[str, ...], **more: str) -> Kernel:
    """A group of these members, none of which requires another; they say when they start and stop."""
    said = """
    class Plugin(IPlugin):
        def __init__(self, api): self.api = api
        def start(self): self.api.emit("group.began", name=self.api.name)
        def stop(self): self.api.emit("group.ended", name=self.api.name)
        @expose
        def die(self): os.kill(os.getpid(), signal.SIGKILL)
        @expose
        def answer(self): return self.api.generation
    """
    for name in names:
        restart = more.get(name, "permanent")
        plugins.add(name, said, supervision={"restart": restart, "backoff": 0.01})
    return plugins.kernel(config=KernelConfig(group={"g": Group(strategy, names)}))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_group_starts_in_its_order_and_stops_in_the_reverse_one(plugins: Plugins, strategy: str) -> None:
    names = ("zoo", "yak", "ant", "bee", "mole")
    kernel = in_order(plugins, strategy, names)
    began: list[str] = []
    ended: list[str] = []

    def listen(kernel: Kernel) -> None:
        kernel.on("group.began", lambda name: began.append(name), inline=True)
        kernel.on("group.ended", lambda name: ended.append(name), inline=True)

    kernel.open(listen)
    kernel.close()
    assert began == [*names]
    assert ended == [*reversed(names)]


def test_requirements_count_before_the_order_of_a_group(plugins: Plugins) -> None:
    kernel = in_order(plugins, "one_for_one", ("first", "second", "third"))
    plugins.healthy("first", requires=["second"])
    with kernel:
        assert [kernel.info(name).state for name in ("first", "second", "third")] == ["active"] * 3


def test_failed_member_does_not_prevent_the_start_of_others(plugins: Plugins) -> None:
    kernel = in_order(plugins, "one_for_all", ("first", "second", "third"))
    plugins.add("first", "raise OSError")
    with kernel:
        states = [kernel.info(name).state for name in ("first", "second", "third")]
    assert states == ["failed", "active", "active"]


def test_a_temporary_member_is_stopped_and_not_restarted_with_its_group(plugins: Plugins) -> None:
    with in_order(plugins, "one_for_all", ("db", "job", "web"), job="temporary") as kernel:
        told = Told(kernel)
        with pytest.raises(PluginDied):
            kernel.call("db.die")
        for name in ("db", "web"):
            eventually(lambda n=name: kernel.info(n).generation == 2, f"{name} is restarted")  # type: ignore[misc]
            state_is(kernel, name, "active")
        job = state_is(kernel, "job", "stopped")
        assert (job.generation, job.restarts, job.error_id) == (1, 0, "MK0224")
        assert told.of("MK0224") == [("job", "stopped: db of its group died, and a temporary plugin is not restarted")]
        assert kernel.start("job").generation == 2


def test_crash_of_a_temporary_member_restarts_no_other(plugins: Plugins) -> None:
    with in_order(plugins, "one_for_all", ("db", "job", "web"), job="temporary") as kernel:
        with pytest.raises(PluginDied):
            kernel.call("job.die")
        state_is(kernel, "job", "stopped")
        assert [kernel.call(f"{name}.answer") for name in ("db", "web")] == [1, 1]


# What others require

REQUIRED = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        if self.api.generation > 1 and not self.api.get_data("mended"): raise OSError("the disk is gone")
    def stop(self): pass
    @expose
    def die(self): os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["restarts fail", "kill"])
def test_missing_requirement_is_shown_and_published(plugins: Plugins, how: str) -> None:
    plugins.add("store", REQUIRED, supervision={"intensity": 1, "backoff": 0.01})
    plugins.healthy("web", requires=["store"])
    plugins.healthy("other")
    states: list[dict[str, object]] = []
    with plugins.kernel() as kernel:
        told = Told(kernel)
        kernel.on("kernel.state", lambda event: states.append(event.data), inline=True)
        if how == "kill":
            kernel.kill("store")
        else:
            with pytest.raises(PluginDied):
                kernel.call("store.die")
        down = state_is(kernel, "store", "quarantined", "stopped").state
        plugin, text = told.wait_for("MK0225")
        assert (plugin, text) == ("web", f"running without a required plugin: store is {down}")
        info = kernel.info("web")
        assert (info.state, info.error_id) == ("active", "MK0225")
        assert [state["error"] for state in states if state["plugin"] == "web"] == [info.error]
        assert kernel.info("other").error is None
        kernel.set_data("mended", True)
        kernel.start("store", reset=True)
        assert kernel.info("web").error is None
        assert [state["error"] for state in states if state["plugin"] == "web"][1:] == [None]
        assert told.of("MK0225") == [("web", text)]


# Probation

VERSIONED = """
class Plugin(IPlugin):
    def __init__(self, api): self.api, self.count = api, 0
    def start(self):
        {start}
    def stop(self): pass
    def export_state(self): return self.count
    def import_state(self, state, from_version): self.count = state
    @expose
    def add(self) -> int:
        self.count += 1
        return self.count
    @expose
    def version(self) -> str: return self.api.version
"""
DYING: dict[str, Callable[[str], str]] = {
    "process": lambda after: f"threading.Timer({after}, os._exit, [3]).start()",
    "thread": lambda after: f"self.api.after({after}, sys.exit)",
}


def versioned(plugins: Plugins, version: str, start: str = "pass", **limits: float) -> None:
    plugins.add("counter", VERSIONED.format(start=start), version=version, limits={**QUICK, "heartbeat": 2, **limits})


@BOTH
def test_crash_on_probation_rolls_back_to_the_old_source(plugins: Plugins, level: str) -> None:
    versioned(plugins, "1.0")
    with plugins.kernel(level) as kernel:
        assert [kernel.call("counter.add"), kernel.call("counter.add")] == [1, 2]
        versioned(plugins, "2.0", DYING[level]("0.05"), probation=20.0)
        with pytest.raises(ReloadFailed) as caught:
            kernel.reload("counter")
        assert caught.value.report.version == "1.0"
        assert kernel.info("counter").state == "active"
        assert kernel.call("counter.version") == "1.0"
        assert kernel.call("counter.add") == 3
        assert kernel.core.registry.get("counter").history == ()


@BOTH
def test_new_version_is_accepted_after_its_probation(plugins: Plugins, level: str) -> None:
    versioned(plugins, "1.0")
    with plugins.kernel(level) as kernel:
        kernel.call("counter.add")
        versioned(plugins, "2.0", probation=0.1)
        assert kernel.reload("counter").version == "2.0"
        assert kernel.call("counter.add") == 2
        assert kernel.call("counter.version") == "2.0"


@pytest.mark.parametrize("how", ["kill", "stop", "close"])
def test_probation_does_not_delay_other_operations(plugins: Plugins, how: str) -> None:
    versioned(plugins, "1.0")
    kernel = plugins.kernel()
    kernel.open()
    versioned(plugins, "2.0", probation=3000.0)
    reloading = threading.Thread(target=kernel.reload, args=["counter"])
    reloading.start()
    eventually(lambda: kernel.call("counter.version", timeout=30) == "2.0")
    getattr(kernel, how)(*["counter"] * (how != "close"))
    reloading.join(30)
    assert not reloading.is_alive()
    kernel.close()


def test_redelivery_is_reported_after_the_crash_and_only_if_delivered(plugins: Plugins) -> None:
    body = """
    class Plugin(IPlugin):
        def start(self): pass
        def stop(self): pass
        @on("poison")
        def die(self): os._exit(7)
    """
    plugins.add("frail", body, limits={"max_deliveries": 9}, supervision={"intensity": 2, "backoff": 0.01})
    with plugins.kernel("process") as kernel:
        told = Told(kernel)
        kernel.emit("poison")
        told.wait_for("MK0205")
        ids = [id for id, plugin, _ in told.messages if plugin == "frail" and id in ("MK0204", "MK0205", "MK0221")]
        assert ids == ["MK0204", "MK0221", "MK0204", "MK0221", "MK0205"]


def test_kernel_defect_at_a_start_affects_only_that_plugin(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of the kernel is reported too, with its traceback in the log, and no call waits forever."""
    plugins.healthy("frail", supervision={"backoff": 0.01})
    plugins.healthy()
    with plugins.kernel("process") as kernel:
        monkeypatch.setattr(Launcher, "launch", lambda *_: 1 / 0)
        pid = kernel.info("frail").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        info = state_is(kernel, "frail", "quarantined")
        assert "MK0205" in str(info.error)
        assert "ZeroDivisionError" in str(info.error)
        assert "ZeroDivisionError" in caplog.text
        with pytest.raises(KernelError, match=r"MK0699.*ZeroDivisionError"):
            kernel.start("frail", reset=True)
        assert kernel.info("healthy").state == "active"
