"""Threads that are ended, and those that cannot be."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from microkernel import Kernel
from tests.security.attacks.support import LOCKS, Plugins, eventually, state_is
from tests.security.attacks.test_ends import QUICK

HELD = """
from tests.security.attacks.support import LOCKS
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @on("hang")
    def hang(self, key: str, how: str):
        begun, lock, after = LOCKS[key + "begun"], LOCKS[key], LOCKS[key + "after"]
        begun.release()
        if how == "spin":
            while True: pass
        elif how == "swallow":
            while LOCKS[key].locked():
                try:
                    while LOCKS[key].locked(): pass
                except BaseException: pass
        else:
            lock.acquire()
        for try_it in (lambda: self.api.emit("ghost.emit"), lambda: self.api.set_data("ghost.data", 1),
                       lambda: self.api.call("healthy.answer"), lambda: self.api.log.warning("ghost")):
            try: try_it()
            except BaseException: pass
        after.release()
"""


@pytest.fixture
def hung() -> Iterator[Callable[[str], str]]:
    """Makes the locks of one hanging handler; releases all at the end, so that no thread is left."""

    def make(key: str) -> str:
        for name in (key, f"{key}begun", f"{key}after"):
            LOCKS[name] = threading.Lock()
            LOCKS[name].acquire()
        return key

    yield make
    for lock in LOCKS.values():
        if lock.locked():
            lock.release()
    LOCKS.clear()


def hang(kernel: Kernel, name: str, how: str) -> None:
    kernel.emit("hang", key=name, how=how)
    assert LOCKS[f"{name}begun"].acquire(timeout=30)


@pytest.mark.parametrize("way", ["kill", "stop", "reload"])
def test_a_thread_that_spins_is_ended(plugins: Plugins, hung: Callable[[str], str], way: str) -> None:
    plugins.add("bad", HELD, limits=QUICK)
    with plugins.kernel("thread") as kernel:
        hang(kernel, hung("bad"), "spin")
        getattr(kernel, way)("bad")
        assert kernel.info("bad").state == ("active" if way == "reload" else "stopped")
        if way != "reload":
            eventually(lambda: not [t for t in threading.enumerate() if t.name == "bad-1"], "its thread ends")
            kernel.start("bad")
        plugins.healthy("late")
        assert kernel.load(plugins.path("late")).state == "active"


def test_start_that_does_not_return_is_reported_as_a_zombie(
    plugins: Plugins, hung: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microkernel.kernel.lifecycle.termination._KILL_PATIENCE", 0.5)
    body = """
    from tests.security.attacks.support import LOCKS
    class Plugin(IPlugin):
        def start(self): LOCKS["bad"].acquire()
        def stop(self): pass
    """
    hung("bad")
    plugins.add("bad", body, limits={**QUICK, "start": 0.3})
    with plugins.kernel("thread") as kernel:
        info = kernel.info("bad")
        assert (info.state, info.error_id) == ("zombie", "MK0206")
        LOCKS["bad"].release()
        state_is(kernel, "bad", "stopped")


@pytest.mark.parametrize("how", ["lock", "swallow"])
@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_thread_that_cannot_be_ended_is_a_zombie(
    plugins: Plugins, hung: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, how: str, way: str
) -> None:
    monkeypatch.setattr("microkernel.kernel.lifecycle.termination._KILL_PATIENCE", 0.5)
    plugins.add("bad", HELD, limits=QUICK)
    plugins.healthy()
    with plugins.kernel("thread") as kernel:
        ghosts: list[str] = []
        kernel.on("ghost.**", lambda event: ghosts.append(event.topic))
        hang(kernel, hung("bad"), how)
        states: list[str] = []
        kernel.on("kernel.state", lambda plugin, state: states.append(state) if plugin == "bad" else None)
        getattr(kernel, way)("bad")
        info = kernel.info("bad")
        if how == "swallow" and info.state == "stopped":
            return  # it was lucky: the exception came where nothing caught it
        assert info.state == "zombie"
        assert info.error_id == "MK0206"
        assert "stopped" not in states
        calls = kernel.info("healthy").calls
        LOCKS["bad"].release()
        state_is(kernel, "bad", "stopped")
        assert ghosts == []
        assert kernel.get_data("ghost.data") is None
        assert kernel.info("healthy").calls == calls
        assert "ghost" not in [line.text for line in kernel.core.plugins.logs("bad")]
        assert kernel.start("bad").state == "active"
        assert kernel.call("healthy.answer") == 42
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("bad-")], "no thread is left")


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_thread_that_sleeps_is_a_zombie_until_it_wakes(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("microkernel.kernel.lifecycle.termination._KILL_PATIENCE", 0.2)
    (begun, begin), (alarm, wake) = os.pipe(), os.pipe()
    # C code all the way: nothing is raised between the two calls.
    plugins.add("bad", f"""
        import operator, os
        from collections import deque
        from itertools import starmap
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @on("hang")
            def hang(self):
                deque(starmap(operator.call, [(os.write, {begin}, b"x"), (os.read, {alarm}, 1)]), maxlen=0)
                self.api.emit("ghost.emit")
    """, limits={"drain": 0.1, "stop": 0.1, "kill_grace": 0.1})  # fmt: skip
    with plugins.kernel("thread") as kernel:
        ghosts: list[str] = []
        kernel.on("ghost.**", lambda event: ghosts.append(event.topic))
        kernel.emit("hang")
        os.read(begun, 1)
        getattr(kernel, way)("bad")
        assert (kernel.info("bad").state, kernel.info("bad").error_id) == ("zombie", "MK0206")
        os.write(wake, b"x")
        state_is(kernel, "bad", "stopped")
        assert ghosts == []
    for descriptor in (begun, begin, alarm, wake):
        os.close(descriptor)


@pytest.mark.parametrize(
    "body", ["while True: pass", "while True:\n            try: [0] * 9\n            finally: continue"]
)
def test_stop_that_never_returns_is_ended_or_a_zombie(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """Ended, or a zombie and said to be one; never called stopped while it runs."""
    monkeypatch.setattr("microkernel.kernel.lifecycle.termination._KILL_PATIENCE", 0.5)
    plugins.add("bad", f"""
from tests.security.attacks.support import LOCKS
class Plugin(IPlugin):
    def __init__(self, api): pass
    def start(self): pass
    def stop(self):
        {body.replace("True", "'bad' not in LOCKS")}
""", limits=QUICK)  # fmt: skip
    with plugins.kernel("thread") as kernel:
        kernel.stop("bad")
        if kernel.info("bad").state != "zombie":
            eventually(lambda: "bad-1" not in [thread.name for thread in threading.enumerate()], "it has ended")
        LOCKS["bad"] = threading.Lock()
        state_is(kernel, "bad", "stopped")
    LOCKS.clear()


def test_zombie_that_ends_while_it_is_marked_is_stopped(plugins: Plugins, hung: Callable[[str], str]) -> None:
    """The moment a zombie ends may be the moment it is called one."""
    import microkernel.kernel.lifecycle.termination as endings

    plugins.add("bad", HELD, limits={"drain": 0.1, "stop": 0.05, "kill_grace": 0.01})
    with plugins.kernel("thread") as kernel, pytest.MonkeyPatch.context() as patch:
        patch.setattr(endings, "_KILL_PATIENCE", 0.05)
        for turn in range(30):
            hang(kernel, hung("bad"), "lock")
            threading.Timer(0.11 + turn * 0.0005, LOCKS["bad"].release).start()
            kernel.stop("bad")
            state_is(kernel, "bad", "stopped")
            kernel.start("bad")
