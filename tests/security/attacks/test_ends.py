"""Ends: of plugins that will not, of their families, of the zygote, and of the kernel itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied, PluginLoadError, PluginNotActive
from tests.harness.leftovers import gone
from tests.security.attacks.support import Plugins, eventually, state_is

QUICK = {"drain": 0.1, "stop": 0.15, "kill_grace": 0.15}

BUSY = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): {start}
    def stop(self): {stop}
    @expose
    def work(self, begun: str):
        open(begun, "w").close()
        {work}
    @expose
    def pid(self): return os.getpid()
"""
WORK = {
    "spin": "while True: pass",
    "sleep": "time.sleep(10000)",
    "swallow": """
        while True:
            try: time.sleep(0.001)
            except BaseException: pass""",
    "sum": "sum(range(10**12))",
    "regex": "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "deaf": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(10000)",
}


@pytest.fixture
def calls() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def busy(plugins: Plugins, name: str, work: str, start: str = "pass", stop: str = "pass", **tables: object) -> None:
    plugins.add(name, BUSY.format(work=WORK[work], start=start, stop=stop), **{"limits": QUICK, **tables})


def begin(kernel: Kernel, calls: ThreadPoolExecutor, name: str, folder: Path) -> object:
    begun = folder / f"{name}-begun"
    begun.unlink(missing_ok=True)
    call = calls.submit(kernel.call, f"{name}.work", str(begun), timeout=1000)
    eventually(begun.exists, f"{name} works")
    return call


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("how", ["kill", "stop", "reload", "unload"])
def test_process_plugin_ends_whatever_it_does(
    plugins: Plugins, calls: ThreadPoolExecutor, tmp_path: Path, work: str, how: str
) -> None:
    busy(plugins, "bad", work)
    plugins.healthy()
    with plugins.kernel() as kernel:
        pid = kernel.call("bad.pid")
        waiting = begin(kernel, calls, "bad", tmp_path)
        began = time.monotonic()
        getattr(kernel, how)("bad")
        with pytest.raises(PluginNotActive if how in ("stop", "unload") else PluginDied):
            waiting.result(30)  # type: ignore[attr-defined]
        assert time.monotonic() - began < 30  # its deadline is 1000 s
        assert gone(pid)
        assert how == "unload" or kernel.info("bad").state == ("active" if how == "reload" else "stopped")
        assert kernel.call("healthy.answer") == 42


@pytest.mark.parametrize("how", ["kill", "stop", "close"])
def test_plugin_with_a_hanging_stop_and_ignored_sigterm_is_ended(plugins: Plugins, how: str) -> None:
    busy(plugins, "bad", "spin", start="signal.signal(signal.SIGTERM, signal.SIG_IGN)", stop="time.sleep(10000)")
    with plugins.kernel() as kernel:
        pid = kernel.info("bad").pid
        assert pid is not None
        getattr(kernel, how)(*["bad"] * (how != "close"))
        assert gone(pid)


@pytest.mark.parametrize("work", ["spin", "sleep", "swallow", "stopped", "deaf"])
def test_handler_past_its_deadline_is_ended_and_the_plugin_restarts(
    plugins: Plugins, calls: ThreadPoolExecutor, tmp_path: Path, work: str
) -> None:
    busy(plugins, "bad", work, limits={**QUICK, "handler": 0.3})
    with plugins.kernel() as kernel:
        waiting = begin(kernel, calls, "bad", tmp_path)
        with pytest.raises(PluginDied):
            waiting.result(30)  # type: ignore[attr-defined]
        eventually(lambda: kernel.info("bad").generation == 2 and kernel.info("bad").state == "active")


QUICK_HANDLER = """
class Plugin(IPlugin):
    def __init__(self, api): pass
    def start(self): pass
    def stop(self): pass
    @on("work")
    def work(self): pass
"""
TALKER = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @on("talk")
    def talk(self, said: str):
        for number in range(100): self.api.emit("heard", number=number)
        open(said, "w").close()
        while True: pass
"""


@pytest.mark.parametrize("how", ["kill", "overdue"])
def test_events_emitted_before_the_kill_are_delivered(plugins: Plugins, tmp_path: Path, how: str) -> None:
    """Also when the kernel had no time yet to read it."""
    plugins.add("talker", TALKER, limits={**QUICK, "handler": 0.3 if how == "overdue" else 60})
    said, heard, free = tmp_path / "said", [], threading.Event()
    with plugins.kernel() as kernel:
        kernel.on("heard", lambda number: heard.append(number), inline=True)
        kernel.core.reactor.post(free.wait)  # from here on nothing is read
        kernel.emit("talk", said=str(said))
        eventually(said.exists, "it has said all")
        threading.Timer(0.5, free.set).start()
        if how == "kill":
            kernel.kill("talker")
        eventually(lambda: heard[:100] == [*range(100)], "all was heard")


LAST_WORDS = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @on("talk")
    def talk(self, go: str, said: str):
        for number in range(300): self.api.emit("heard", number=number)
        while not os.path.exists(go): time.sleep(0.001)
        for number in range(300, 400): self.api.emit("heard", number=number)
        open(said, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_final_events_arrive_if_the_plugin_left_input_unread(plugins: Plugins, tmp_path: Path) -> None:
    """The system tells us first that the other end has not read all, and only then gives us what that has said."""
    plugins.add("talker", LAST_WORDS)
    go, said, heard, free = tmp_path / "go", tmp_path / "said", [], threading.Event()
    with plugins.kernel() as kernel:
        kernel.on("heard", lambda number: heard.append(number), inline=True)
        kernel.emit("talk", go=str(go), said=str(said))
        eventually(lambda: len(heard) == 300, "the first are heard, and credit is given for them")
        kernel.core.reactor.run(int)
        kernel.core.reactor.post(free.wait)  # from here on nothing is read
        go.touch()
        eventually(said.exists, "it has said all")
        free.set()
        eventually(lambda: kernel.info("talker").generation == 2, "it died")
        assert heard[:400] == [*range(400)]


def test_handler_that_finished_in_time_is_not_overdue_if_the_kernel_is_late(plugins: Plugins) -> None:
    plugins.add("quick", QUICK_HANDLER, limits={**QUICK, "handler": 0.3})
    free, messages = threading.Event(), []
    with plugins.kernel() as kernel:
        reactor = kernel.core.reactor
        kernel.on("kernel.message", lambda id: messages.append(id), inline=True)
        kernel.emit("work")
        reactor.post(free.wait)
        threading.Timer(0.6, free.set).start()
        reactor.run(int)
        reactor.run(int)
        for thread in threading.enumerate():
            if thread.name == "quick-overdue":
                thread.join()
        assert messages == []


ENDS = {
    "_exit": "os._exit(3)",
    "_exit(0)": "os._exit(0)",
    "sys.exit": "sys.exit()",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "exec": "os.execvp('true', ['true'])",
    "thread": "threading.Thread(target=os._exit, args=[3]).start(); time.sleep(1000)",
}


@pytest.mark.parametrize("how", ENDS)
def test_load_and_start_raise_if_the_plugin_ends_its_process(plugins: Plugins, how: str) -> None:
    body = """
        class Plugin(IPlugin):
            def {where}(self, *api): {how}
            def {other}(self, *api): pass
            def stop(self): pass
    """
    plugins.healthy()
    with plugins.kernel() as kernel:
        for where, other in ("start", "__init__"), ("__init__", "start"):
            name = f"ends-in-{where.strip('_')}"
            source = body.format(where=where, other=other, how=ENDS[how])
            path = plugins.add(name, source, supervision={"restart": "temporary"})
            for bring_up in partial(kernel.load, path), partial(kernel.start, name), partial(kernel.reload, name):
                with pytest.raises(PluginLoadError) as refused:
                    bring_up()
                assert refused.value.id == "MK0203"
                assert kernel.info(name).state == "stopped"
            with pytest.raises(PluginLoadError):
                kernel.start(name, reset=True)


ALARM = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    {kind} start(self):
        def ring(*_): raise TimeoutError("the alarm rang")
        if self.api.generation == 1:
            signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
    def stop(self): pass
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_exception_of_a_signal_handler_in_an_idle_plugin_is_reported(plugins: Plugins, kind: str) -> None:
    plugins.add("clock", ALARM.format(kind=kind), supervision={"restart": "temporary"})
    with plugins.kernel("process") as kernel:
        info = state_is(kernel, "clock", "stopped")
        assert "TimeoutError: the alarm rang (clock.py:" in str(info.error)
        assert "exit status" not in str(info.error)
