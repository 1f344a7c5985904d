"""Ends: of plugins that will not, of their families, of the zygote, and of the kernel itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied, PluginNotActive
from microkernel.hosts import _zygote
from tests.attacks.support import (
    DAEMON,
    LOCKS,
    Plugins,
    Script,
    descendants,
    eventually,
    gone,
    marked,
    marker,
    state_is,
)

QUICK = {"stop": 0.3, "insist": 0.3}

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
def test_whatever_a_process_plugin_does_it_ends(
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
def test_a_stop_that_never_returns_and_a_signal_that_is_ignored(plugins: Plugins, how: str) -> None:
    busy(plugins, "bad", "spin", start="signal.signal(signal.SIGTERM, signal.SIG_IGN)", stop="time.sleep(10000)")
    with plugins.kernel() as kernel:
        pid = kernel.info("bad").pid
        assert pid is not None
        getattr(kernel, how)(*["bad"] * (how != "close"))
        assert gone(pid)


@pytest.mark.parametrize("work", ["spin", "sleep", "swallow", "stopped", "deaf"])
def test_a_handler_past_its_deadline(plugins: Plugins, calls: ThreadPoolExecutor, tmp_path: Path, work: str) -> None:
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
def test_what_was_emitted_before_the_end_was_decided_is_heard(plugins: Plugins, tmp_path: Path, how: str) -> None:
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


def test_who_has_finished_in_time_is_not_overdue_because_the_kernel_was_late(plugins: Plugins) -> None:
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


# Families

FAMILY = DAEMON + """
LEAPING = '''
import os, time
while True:
    if os.fork(): os._exit(0)
    os.setsid()
    time.sleep(0.01)
'''
DEAF = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(3600)"
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        daemon(MARK)
        daemon(MARK, body=LEAPING)
        subprocess.Popen([sys.executable, "-c", DEAF, MARK])
        subprocess.Popen(["setsid", "sleep", "3600"], env={**os.environ, "MARK": MARK})
    def stop(self): pass
    @on("crash")
    def crash(self): os.kill(os.getpid(), signal.SIGSEGV)
    @on("leave")
    def leave(self): os._exit(0)
    @expose
    def zygote(self): os.kill(os.getppid(), 9); time.sleep(3600)
"""


def family(plugins: Plugins, name: str, mark: str, **tables: object) -> None:
    plugins.add(name, f"MARK = {mark!r}\n{FAMILY}", **tables)


def relatives(mark: str) -> list[int]:
    """Those with the argument, and those with it in their environment."""
    found = marked(mark)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if f"MARK={mark}".encode() in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found


def whole_family(mark: str) -> bool:
    return len(relatives(mark)) >= 3  # one of the four leaps from process to process: a look often misses it


def extinct(mark: str) -> bool:
    """One of them is never where it was: a single look may miss it."""
    return not any(relatives(mark) for _ in range(5))


@pytest.mark.parametrize("how", ["kill", "stop", "reload", "unload", "crash", "leave", "close"])
def test_a_plugin_takes_its_whole_family_with_it(plugins: Plugins, how: str) -> None:
    marks = {"bad": marker(), "other": marker()}
    for name, mark in marks.items():
        family(plugins, name, mark, supervision={"restart": "temporary"})
    with plugins.kernel() as kernel:
        for mark in marks.values():
            eventually(lambda m=mark: whole_family(m), "its family is there")
        old = set(relatives(marks["bad"]))
        if how in ("crash", "leave"):
            kernel.emit(how)
            state_is(kernel, "bad", "stopped")
            state_is(kernel, "other", "stopped")
            assert extinct(marks["bad"])
        elif how == "close":
            kernel.close()
            assert extinct(marks["bad"])
            assert extinct(marks["other"])
        else:
            getattr(kernel, how)("bad")
            if how == "reload":
                eventually(lambda: not old & set(relatives(marks["bad"])), "the old ones are gone")
                eventually(lambda: whole_family(marks["bad"]), "and the new ones there")
            else:
                assert extinct(marks["bad"])
            eventually(lambda: whole_family(marks["other"]), "the other family is left alone")
    assert all(extinct(mark) for mark in marks.values())


@pytest.mark.parametrize("when", ["while it starts", "over a fork"])
def test_a_zygote_that_dies_over_a_birth(plugins: Plugins, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another takes its place and is asked: the plugin never notices."""
    plugins.healthy()
    plugins.healthy("second")
    killed = []

    def kill_first(zygote: int) -> None:
        if not killed:
            killed.append(zygote)
            os.kill(zygote, signal.SIGSTOP if when == "over a fork" else signal.SIGKILL)

    spawn = _zygote._spawn

    def spawned(*args: object) -> object:
        process = spawn(*args)
        if when == "while it starts":
            kill_first(process.pid)
        return process

    monkeypatch.setattr(_zygote, "_spawn", spawned)
    with plugins.kernel() as kernel:
        if when == "over a fork":
            kernel.stop("second")
            (zygote,) = [pid for pid, line in descendants(os.getpid()).items() if "zygote" in line and _is_ours(pid)]
            kill_first(zygote)
            threading.Timer(0.2, os.kill, (zygote, signal.SIGKILL)).start()
            kernel.start("second")
        assert kernel.call("second.answer") == 42
        state_is(kernel, "healthy", "active")
        assert kernel.call("healthy.answer") == 42


def _is_ours(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())


def test_a_plugin_that_kills_the_zygote(plugins: Plugins) -> None:
    """All come back, at no cost to their budgets; of the old ones nothing is left."""
    mark = marker()
    family(plugins, "bad", mark, supervision={"intensity": 0})
    for number in range(5):
        plugins.healthy(f"healthy{number}", supervision={"intensity": 0})
    with plugins.kernel() as kernel:
        eventually(lambda: whole_family(mark))
        names = [info.name for info in kernel.list()]
        for generation in 2, 3:
            pids = [info.pid for info in kernel.list()]
            old = relatives(mark)
            with pytest.raises(PluginDied):
                kernel.call("bad.zygote", timeout=60)
            for name in names:
                eventually(lambda n=name, g=generation: kernel.info(n).generation == g, name)
                state_is(kernel, name, "active")
            for pid in [*pids, *old]:
                assert pid is not None
                eventually(lambda p=pid: gone(p), f"{pid} is gone")
            assert all(kernel.core.registry.get(name).history == () for name in names)
            assert all(kernel.call(f"healthy{number}.answer") == 42 for number in range(5))
            eventually(lambda: whole_family(mark))
    assert extinct(mark)


# The kernel's own end

RUNNING = """
import os, sys, threading
from microkernel import Kernel
with Kernel({folder!r}, isolation="process") as kernel:
    pids = [info.pid for info in kernel.list()] + [kernel._hosts["process"].zygote_pid]
    for info in kernel.list():
        if info.name.startswith("busy"):
            work = lambda name=info.name: kernel.call(name + ".work", os.devnull, timeout=1000)
            threading.Thread(target=work, daemon=True).start()
    print(*pids, flush=True)
    {then}
"""


def running(plugins: Plugins, mark: str, tmp_path: Path, then: str = "input()") -> tuple[Script, list[int]]:
    family(plugins, "family", mark)
    plugins.healthy()
    for work in "spin", "sleep", "swallow", "sum", "stopped", "deaf":
        busy(plugins, f"busy_{work}", work)
    script = Script(RUNNING.format(folder=str(plugins.folder), then=then), tmp_path)
    pids = [int(pid) for pid in script.line().split()]
    assert len(pids) == 9, script.errors.read_text()
    eventually(lambda: whole_family(mark))
    return script, pids


def all_gone(pids: list[int], mark: str = "") -> bool:
    return all(map(gone, pids)) and (not mark or extinct(mark))


def test_the_kernel_is_killed(plugins: Plugins, tmp_path: Path) -> None:
    mark = marker()
    script, pids = running(plugins, mark, tmp_path)
    script.kill()
    eventually(lambda: all_gone(pids, mark), f"nothing is left of {pids}, {mark}")
    script.end()


def test_the_kernel_is_killed_while_plugins_start(plugins: Plugins, tmp_path: Path) -> None:
    mark = marker()
    for number in range(20):
        family(plugins, f"p{number}", mark)
    script = Script(RUNNING.format(folder=str(plugins.folder), then="input()"), tmp_path)
    eventually(lambda: len(relatives(mark)) > 10)
    everybody = descendants(script.pid)
    script.kill()
    eventually(lambda: all_gone(list(everybody), mark), "nothing is left")
    script.end()


def test_kernel_and_zygote_are_killed_at_the_same_moment(plugins: Plugins, tmp_path: Path) -> None:
    """The workers die of the lifeline; what daemonised itself may live on, which is documented."""
    mark = marker()
    script, pids = running(plugins, mark, tmp_path)
    try:
        os.kill(pids[-1], signal.SIGSTOP)  # so that the one cannot clean up after the other
        script.kill()
        os.kill(pids[-1], signal.SIGKILL)
        eventually(lambda: all_gone(pids), f"no worker is left of {pids}")
    finally:
        script.end()
        while left := relatives(mark):
            for pid in left:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV])
def test_the_kernel_ends_by_another_signal(plugins: Plugins, tmp_path: Path, number: signal.Signals) -> None:
    mark = marker()
    script, pids = running(plugins, mark, tmp_path)
    os.kill(script.pid, number)
    eventually(lambda: all_gone(pids, mark), f"nothing is left of {pids}, {mark}")
    script.end()


FORKS = {
    "os.fork": """
    child = os.fork()
    if child == 0:
        tries()
        time.sleep(3600)
    print(child, flush=True)""",
    "multiprocessing": """
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=lambda: (tries(), time.sleep(3600)), daemon=True)
    child.start()
    print(child.pid, flush=True)""",
}
FORKING = """
import os, sys, time
from microkernel import Kernel
from microkernel.errors import KernelClosed
def tries():
    for work in (lambda: kernel.call("healthy.answer"), lambda: kernel.emit("x"), kernel.list,
                 lambda: kernel.load("x.py"), lambda: kernel.kill("healthy"), lambda: kernel.set_data("a", 1),
                 lambda: kernel.on("x", print)):
        try: work()
        except KernelClosed: print("closed", flush=True)
        except BaseException as error: print(repr(error), flush=True)
    kernel.close()
with Kernel({folder!r}, isolation="process") as kernel:
    {fork}
    input()
    pids = [info.pid for info in kernel.list()] + [kernel._hosts["process"].zygote_pid]
    print(kernel.call("healthy.answer"), *pids, flush=True)
    input()
{last}
"""


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("end", ["normal", "killed"])
def test_an_embedder_that_forks(plugins: Plugins, tmp_path: Path, fork: str, end: str) -> None:
    plugins.healthy()
    mark = marker()
    family(plugins, "family", mark)
    script = Script(FORKING.format(folder=str(plugins.folder), fork=FORKS[fork], last="os._exit(0)"), tmp_path)
    lines = [script.line() for _ in range(8)]
    child = int(next(line for line in lines if line.isdigit()))
    try:
        assert lines.count("closed") == 7, lines
        script.tell()
        answer, *pids = map(int, script.line().split())
        assert answer == 42
        eventually(lambda: whole_family(mark))
        script.tell() if end == "normal" else script.kill()
        eventually(lambda: all_gone(pids, mark), "nothing is left")
        assert not gone(child)
    finally:
        os.kill(child, signal.SIGKILL)
    script.end()


# Threads

HELD = """
from tests.attacks.support import LOCKS
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


@pytest.mark.parametrize("how", ["lock", "swallow"])
@pytest.mark.parametrize("way", ["kill", "stop"])
def test_a_thread_that_cannot_be_ended_is_a_zombie(
    plugins: Plugins, hung: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, how: str, way: str
) -> None:
    monkeypatch.setattr("microkernel.kernel.endings._KILL_PATIENCE", 0.5)
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
        assert "ghost" not in [line.text for line in kernel.core.logs("bad")]
        assert kernel.start("bad").state == "active"
        assert kernel.call("healthy.answer") == 42
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("bad-")], "no thread is left")


def test_many_zombies_and_many_ends(plugins: Plugins, hung: Callable[[str], str]) -> None:
    """The moment a zombie ends may be the moment it is called one."""
    import microkernel.kernel.endings as endings

    plugins.add("bad", HELD, limits={"stop": 0.05, "insist": 0.01})
    with plugins.kernel("thread") as kernel, pytest.MonkeyPatch.context() as patch:
        patch.setattr(endings, "_KILL_PATIENCE", 0.05)
        for turn in range(30):
            hang(kernel, hung("bad"), "lock")
            threading.Timer(0.11 + turn * 0.0005, LOCKS["bad"].release).start()
            kernel.stop("bad")
            state_is(kernel, "bad", "stopped")
            kernel.start("bad")
