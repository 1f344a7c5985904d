"""What happens to what waits when a plugin, or the whole kernel, is stopped."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.errors import KernelError, PluginNotActive
from tests.security.attacks.support import Plugins, eventually, state_is

BOTH = pytest.mark.parametrize("level", ["thread", "process"])
WORKER = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): self.api.emit("out.stopped", name=self.api.name)
    @on("{topic}")
    def work(self, n: int):
        {work}
        self.api.emit("out.worked", name=self.api.name, n=n)
    @expose
    def double(self, n: int) -> int:
        return 2 * n
"""
SLOW = "time.sleep(0.002)"
SHORT = {"drain": 0.2, "stop": 0.2, "kill_grace": 0.2}


def add(plugins: Plugins, name: str, work: str = SLOW, topic: str = "", **tables: object) -> None:
    plugins.add(name, WORKER.format(topic=topic or f"work.{name}", work=work), **tables)


class Heard:
    """What plugins and the kernel said."""

    def __init__(self, kernel: Kernel) -> None:
        self.worked: list[tuple[str, int]] = []
        self.stopped: list[str] = []
        self.messages: list[tuple[str, str]] = []
        kernel.on("out.worked", lambda name, n: self.worked.append((name, n)), inline=True)
        kernel.on("out.stopped", lambda name: self.stopped.append(name), inline=True)
        kernel.on("kernel.message", lambda id, text: self.messages.append((id, text)), inline=True)

    def of(self, id: str) -> list[str]:
        return [text for told, text in self.messages if told == id]


@BOTH
def test_closing_the_kernel_handles_queued_events(plugins: Plugins, level: str) -> None:
    add(plugins, "a", topic="work")
    add(plugins, "b", topic="work")
    with plugins.kernel(level) as kernel:
        heard = Heard(kernel)
        for n in range(200):
            kernel.emit("work", n=n)
    for name in "ab":
        assert [n for who, n in heard.worked if who == name] == [*range(200)]
    assert sorted(heard.stopped) == ["a", "b"]
    assert heard.of("MK0226") == []


@BOTH
def test_emits_and_calls_of_a_draining_plugin_reach_its_requirements(plugins: Plugins, level: str) -> None:
    """A plugin is stopped before the plugins it requires, so its emits and calls until then still arrive."""
    add(plugins, "above", "self.api.emit('work.below', n=self.api.call('below.double', n))", requires=["below"])
    add(plugins, "below")
    with plugins.kernel(level) as kernel:
        heard = Heard(kernel)
        for n in range(50):
            kernel.emit("work.above", n=n)
    assert [n for who, n in heard.worked if who == "below"] == [2 * n for n in range(50)]
    assert heard.stopped == ["above", "below"]
    assert heard.of("MK0226") == []


@BOTH
def test_closing_now_drains_nothing_and_says_how_many_events_are_left(plugins: Plugins, level: str) -> None:
    for name in "ab":
        work = "self.api.emit('out.begun', name=self.api.name); self.api.sleep(3600)"
        add(plugins, name, work, limits={"drain": 3600})
    kernel = plugins.kernel(level)
    kernel.open()
    heard, begun = Heard(kernel), set[str]()
    kernel.on("out.begun", lambda name: begun.add(name), inline=True)
    for n in range(5):
        kernel.emit("work.a", n=n)
        kernel.emit("work.b", n=n)
    eventually(lambda: len(begun) == 2)
    kernel.close(now=True)
    assert heard.of("MK0226") == ["unhandled events: 8"]  # two had started, and end when they are asked to


@BOTH
def test_a_layer_takes_as_long_as_its_slowest_plugin(plugins: Plugins, level: str) -> None:
    """Thirty that hang, in two layers: all of one are stopped at the same time."""
    names = [f"p{number}" for number in range(30)]
    for name in names:
        add(plugins, name, "while True: time.sleep(0.001)", "work", limits=SHORT)
    add(plugins, "top", "while True: time.sleep(0.001)", "work", limits=SHORT, requires=["p1"])
    kernel = plugins.kernel(level)
    kernel.open()
    heard = Heard(kernel)
    active = threading.active_count()
    for n in range(2):
        kernel.emit("work", n=n)
    most = []
    kernel.on("kernel.state", lambda state: most.append(threading.active_count()) if state == "stopping" else None,
              inline=True)  # fmt: skip
    kernel.close()
    assert max(most) >= active + 25
    assert heard.of("MK0226") == ["unhandled events: 62"]


def test_mutual_calls_while_draining_do_not_deadlock(plugins: Plugins) -> None:
    """Both are stopping: the calls are refused, and the events are dead letters."""
    for name, other in (("a", "b"), ("b", "a")):
        add(plugins, name, f"time.sleep(0.01); self.api.call('{other}.double', n)", limits={"drain": 20})
    kernel = plugins.kernel()
    kernel.open()
    heard = Heard(kernel)
    for n in range(20):
        kernel.emit("work.a", n=n)
        kernel.emit("work.b", n=n)
    kernel.close()
    refused = [text for text in heard.of("MK0611") if "PluginNotActive" in text and "stopping" in text]
    assert refused or len(heard.worked) == 40
    assert heard.of("MK0209") == []


@BOTH
def test_a_hung_handler_ends_its_drain_at_its_own_deadline(plugins: Plugins, level: str) -> None:
    add(plugins, "a", "while True: time.sleep(0.001)", limits={**SHORT, "drain": 3600, "handler": 0.3})
    with plugins.kernel(level) as kernel:
        kernel.emit("work.a", n=1)
        eventually(lambda: kernel.info("a").waiting == 1)
        assert kernel.stop("a").state == "stopped"
        assert kernel.info("a").restarts == 0


@BOTH
def test_a_kill_ends_a_drain(plugins: Plugins, level: str) -> None:
    add(plugins, "a", "while True: time.sleep(0.001)", limits={**SHORT, "drain": 3600})
    with plugins.kernel(level) as kernel:
        kernel.emit("work.a", n=1)
        stopping = threading.Thread(target=kernel.stop, args=["a"])
        stopping.start()
        state_is(kernel, "a", "stopping")
        kernel.kill("a")
        stopping.join(30)
        assert not stopping.is_alive()
        assert kernel.info("a").state == "stopped"
        assert kernel.start("a").state == "active"


@BOTH
def test_event_for_a_stopping_plugin_is_a_dead_letter_under_every_policy(plugins: Plugins, level: str) -> None:
    plugins.add("a", """
        class Plugin(IPlugin):
            def __init__(self, api):
                self.api = api
                for overflow in ("block", "reject", "drop_oldest", "drop_newest"):
                    api.on(f"late.{overflow}", self.late, overflow=overflow)
            def start(self): pass
            def stop(self): pass
            def late(self, n: int): pass
            @on("go")
            def go(self):
                while not self.api.get_data("go"): time.sleep(0.001)
    """, limits={"mailbox": 2})  # fmt: skip
    with plugins.kernel(level) as kernel:
        kernel.emit("go")
        stopping = threading.Thread(target=kernel.stop, args=["a"])
        stopping.start()
        state_is(kernel, "a", "stopping")
        for overflow in ("block", "reject", "drop_oldest", "drop_newest"):
            kernel.emit(f"late.{overflow}", n=1)
        assert [r.error is not None for r in kernel.ask("late.block", n=1, timeout=5)] == [True]
        with pytest.raises(PluginNotActive, match="stopping"):
            kernel.call("a.anything")
        kernel.set_data("go", True)
        stopping.join(30)
        letters = eventually(lambda: len(found := kernel.dead_letters("a")) == 5 and found)
        assert {letter["reason"] for letter in letters} == {"a is stopping"}


def test_blocked_sends_are_handled_during_a_drain(plugins: Plugins) -> None:
    """Events that waited for room in a full mailbox when the stop was decided."""
    add(plugins, "a", limits={"mailbox": 5}, supervision={"intensity": 0})
    add(plugins, "sender", "[self.api.emit('work.a', n=n + i) for i in range(50)]")
    with plugins.kernel(config=KernelConfig(limits={"full_mailbox_timeout": 30.0})) as kernel:
        heard = Heard(kernel)
        kernel.call("sender.double", 1)
        kernel.emit("work.sender", n=0)
        eventually(lambda: kernel.core.registry.get("a").mailbox.blocked_sends)
        waited = len(kernel.core.registry.get("a").mailbox.blocked_sends)
        kernel.stop("a")
        assert len([n for who, n in heard.worked if who == "a"]) >= waited


def test_reload_neither_drains_nor_loses_events(plugins: Plugins) -> None:
    """Nothing is drained, and nothing is lost."""
    add(plugins, "a", "time.sleep(0.01)", limits={"drain": 3600})
    with plugins.kernel() as kernel:
        heard = Heard(kernel)
        for n in range(100):
            kernel.emit("work.a", n=n)
        kernel.reload("a")
        assert len(heard.worked) < 100
        eventually(lambda: [n for _, n in heard.worked] == [*range(100)])


def test_drain_is_configurable_for_all_for_one_and_in_the_manifest(plugins: Plugins, tmp_path: Path) -> None:
    add(plugins, "own", limits={"drain": 7})
    add(plugins, "all")
    add(plugins, "one", limits={"drain": 7})
    config = tmp_path / "microkernel.toml"
    config.write_text("[limits]\ndrain = 3\n[plugin.one.limits]\ndrain = 0\n")
    with Kernel(plugins.folder, config=config) as kernel:
        limits = {record.name: record.manifest.limits.drain for record in kernel.core.registry}
    assert limits == {"own": 3, "all": 3, "one": 0}


def test_refused_stop_now_still_drains_later(plugins: Plugins) -> None:
    add(plugins, "below")
    add(plugins, "above", requires=["below"])
    with plugins.kernel() as kernel:
        with pytest.raises(KernelError, match="MK0211"):
            kernel.stop("below", now=True)
        heard = Heard(kernel)
        for n in range(50):
            kernel.emit("work.below", n=n)
    assert len(heard.worked) == 50
