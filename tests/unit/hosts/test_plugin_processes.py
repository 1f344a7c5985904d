"""Processes that plugins start: forked copies that return, orphans, and the exit of a worker in Python's order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied
from microkernel.worker.orphans import OrphanReaper
from tests.harness.waiting import eventually

HEADER = """
import asyncio, atexit, concurrent.futures, ctypes, logging, multiprocessing, os, signal, subprocess, sys, threading
import time, weakref
from microkernel import IPlugin, every, expose, on
def square(number): return number * number
"""
COMMON = """
    def __init__(self, api): self.api = api
    def start(self): ...
    def stop(self): ...
    @expose
    def pid(self) -> int: return os.getpid()
    @expose
    def do(self, code: str):
        found = {**globals(), "self": self}
        exec(code, found)
        return found.get("result")
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    kernels = []

    def begin(body: str = "", common: str = COMMON, **options: Any) -> Kernel:
        text = f"{HEADER}\nclass Plugin(IPlugin):{common}\n{textwrap.indent(textwrap.dedent(body), '    ')}"
        (tmp_path / "one.py").write_text(text)
        kernels.append(Kernel(tmp_path / "one.py", **options))
        kernels[-1].open()
        return kernels[-1]

    yield begin
    for kernel in kernels:
        kernel.close()


def children(pid: int) -> dict[int, str]:
    """Return the children of a process, and their states."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, parent = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == pid:
                found[int(entry)] = state
    return found


def output(kernel: Kernel) -> str:
    return "\n".join(str(record) for record in kernel.core.registry.get("one").logs)


# Copies

FORKS = {"os.fork": "os.fork()", "C": "ctypes.CDLL(None).fork()", "forkpty": "os.forkpty()[0]"}
ENDS = {
    "returns": ("return os.getpid()", 0),
    "raises": ("raise ValueError('in the child')", 1),
    "exits": ("sys.exit(3)", 3),
    "exits with a text": ("sys.exit('over')", 1),
    "raises what is no Exception": ("raise KeyboardInterrupt", 1),
}
FORKING = """
@expose
def fork(self) -> int:
    child = {fork}
    if child == 0:
        {end}
    self.status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return os.getpid()
@expose
def status_of(self) -> int: return self.status
"""


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("level", ["process", "thread"])
def test_a_forked_copy_that_returns_from_a_method_ends_without_a_reply(
    run: Callable[..., Kernel], fork: str, end: str, level: str
) -> None:
    if level == "thread" and fork == "C":
        pytest.skip("the interpreter does not know that it was forked, and its other threads hold locks")
    code, status = ENDS[end]
    kernel = run(FORKING.format(fork=FORKS[fork], end=code), isolation=level)
    answers = {kernel.call("one.fork", timeout=20) for _ in range(5)}
    assert answers == {kernel.info("one").pid or os.getpid()}
    assert kernel.call("one.status_of") == status


@pytest.mark.parametrize("where", ["start", "init", "module", "stop", "timer", "event", "spawned", "thread", "pool"])
def test_a_forked_copy_ends_wherever_it_returns(run: Callable[..., Kernel], tmp_path: Path, where: str) -> None:
    common = COMMON if where not in ("start", "init", "stop") else COMMON.replace(
        {"start": "def start(self): ...", "stop": "def stop(self): ...", "init": "self.api = api"}[where],
        {"start": "def start(self): fork()", "stop": "def stop(self): fork()", "init": "self.api = api; fork()"}[where],
    )  # fmt: skip
    body = """
        @on("fork.event")
        def event(self): fork()
        @expose
        def spawned(self): self.api.spawn(fork)
        @expose
        def timer(self): self.api.after(0.01, fork)
        @expose
        def thread(self): threading.Thread(target=fork).start()
    """
    (tmp_path / "forking.txt").write_text("")
    fork = f"""
def fork():
    child = os.fork()
    if child == 0:
        raise ValueError("in the child")
    with open({str(tmp_path / "forking.txt")!r}, "a") as file:
        file.write(f"{{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}} ")
{"fork()" if where == "module" else ""}
"""
    if where == "pool":
        fork += "# /// script\n# [tool.microkernel]\n# concurrency = 2\n# ///\n"
    header = globals()["HEADER"]
    text = f"{header}{fork}\nclass Plugin(IPlugin):{common}\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    (tmp_path / "two.py").write_text(text)
    with Kernel(tmp_path / "two.py") as kernel:
        assert kernel.info("two").state == "active", kernel.info("two").error
        if where in ("spawned", "timer", "thread"):
            kernel.call(f"two.{where}")
        elif where == "pool":
            kernel.call("two.do", "fork()", timeout=20)
        elif where == "event":
            kernel.emit("fork.event")
        pid = kernel.info("two").pid
        if where != "stop":
            status = eventually((tmp_path / "forking.txt").read_text)
            assert status == ("0 " if where == "thread" else "1 ")
        assert kernel.call("two.pid") == pid
        assert kernel.info("two").generation == 1
    if where == "stop":
        assert (tmp_path / "forking.txt").read_text() == "1 "


def test_a_forked_copy_that_returns_into_an_event_loop_ends(run: Callable[..., Kernel]) -> None:
    kernel = run("""
        async def fork_in_task(self, code):
            self.child = os.fork()
            if self.child == 0:
                exec(code)
        @expose
        async def fork(self, code: str) -> int:
            task = asyncio.create_task(self.fork_in_task(code))
            await asyncio.wait([task])
            status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
            return os.getpid() + status
        @expose
        async def fork_here(self) -> int:
            child = os.fork()
            if child == 0:
                raise ValueError
            return os.getpid() + 10 * (os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) - 1)
    """)
    pid = kernel.info("one").pid
    assert {kernel.call("one.fork", code, timeout=20) for code in ("pass", "raise ValueError")} == {pid}
    assert {kernel.call("one.fork_here", timeout=20) for _ in range(5)} == {pid}


REFUSED = {
    "emit": "self.api.emit('some.topic', a=1)",
    "call": "self.api.call('one.pid')",
    "data": "self.api.set_data('one.key', 1)",
    "on": "self.api.on('some.topic', print)",
    "spawn": "self.api.spawn(print)",
    "after": "self.api.after(1, print)",
}


@pytest.mark.parametrize("use", REFUSED)
def test_the_api_of_a_forked_copy_raises(run: Callable[..., Kernel], use: str) -> None:
    kernel = run()
    code = f"""
if (child := os.fork()) == 0:
    try:
        {REFUSED[use]}
    except Exception as error:
        os._exit(len(type(error).__name__))
    os._exit(0)
result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    assert kernel.call("one.do", code, timeout=20) == len("KernelClosed")
    assert kernel.call("one.pid") == kernel.info("one").pid


def test_a_forked_copy_is_not_active_and_its_logs_and_errors_are_in_the_plugins_log(run: Callable[..., Kernel]) -> None:
    kernel = run()
    code = """
if (child := os.fork()) == 0:
    self.api.log.warning("said by a copy")
    while self.api.is_active: ...
    raise ValueError("of a copy")
os.waitpid(child, 0)
"""
    kernel.call("one.do", code, timeout=20)
    eventually(lambda: "said by a copy" in output(kernel) and "ValueError: of a copy" in output(kernel))


def test_a_forked_child_ends_by_sigterm_as_that_of_any_program_does(run: Callable[..., Kernel]) -> None:
    kernel = run()
    code = """
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
child.terminate()
child.join()
result = child.exitcode
"""
    assert kernel.call("one.do", code, timeout=20) == -signal.SIGTERM


# Orphans


class System:
    """Processes as a worker sees its children, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.zombies: dict[int, bool] = {}
        self.reaped: list[int] = []
        self.reaper = OrphanReaper(lambda: list(self.zombies), self.is_zombie, self.reap, lambda: self.now)

    def is_zombie(self, pid: int) -> bool:
        if pid not in self.zombies:
            raise ChildProcessError
        return self.zombies[pid]

    def reap(self, pid: int) -> None:
        self.reaped.append(pid)
        del self.zombies[pid]

    def start(self, pid: int, zombie: bool = False) -> None:
        self.zombies[pid] = zombie
        self.reaper.wrap(lambda: pid)()

    def look(self, seconds: float) -> list[int]:
        self.now += seconds
        self.reaper.do()
        return self.reaped


def test_an_orphan_that_is_a_zombie_in_two_scans_is_reaped() -> None:
    system = System()
    system.start(7)
    system.zombies[8] = True
    assert system.look(1.0) == []
    assert system.look(0.9) == []
    assert system.look(0.1) == [8]


def test_a_recorded_child_is_never_reaped_however_long_it_is_not_waited_for() -> None:
    system = System()
    system.start(7, zombie=True)
    assert [system.look(10.0) for _ in range(5)] == [[]] * 5


def test_nothing_is_reaped_while_a_process_is_being_started() -> None:
    system = System()
    system.zombies[7] = True

    def start() -> int:
        assert system.look(1.0) == system.look(1.0) == []
        return 7

    system.reaper.wrap(start)()
    assert system.look(5.0) == system.look(5.0) == []


def test_a_pid_may_be_an_orphans_after_it_was_waited_for() -> None:
    system = System()
    system.start(7)
    del system.zombies[7]
    system.start(9)
    system.look(1.0)
    system.zombies[7] = True
    system.look(1.0)
    assert system.look(1.0) == [7]


def test_a_living_orphan_is_scanned_until_it_exits_and_without_children_no_scan_is_due() -> None:
    system = System()
    due: list[bool] = []
    system.reaper.call_when_due(lambda: due.append(True))
    assert system.reaper.due == float("inf")
    system.start(7)
    assert (system.reaper.due, due) == (101.0, [True])
    del system.zombies[7]
    system.zombies[8] = False
    system.look(1.0)
    assert system.reaper.due == 102.0
    system.zombies[8] = True
    system.look(1.0)
    assert system.look(1.0) == [8]
    assert system.reaper.due == float("inf")


def test_a_process_started_during_a_scan_causes_another_scan() -> None:
    system = System()

    def none_yet() -> list[int]:
        system.reaper._arm()
        return []

    system.reaper._children = none_yet
    system.look(1.0)
    assert system.reaper.due == system.now + 1.0


@pytest.mark.parametrize(
    "start",
    [
        'subprocess.run(["sh", "-c", "(sleep .1 &)"])',
        'os.system("(sleep .1 &)")',
        'os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "(sleep .1 &)"], os.environ), 0)',
        'os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "(sleep .1 &)")',
        'with os.popen("(sleep .1 &)") as p: p.read()',
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_orphans_do_not_stay_as_zombies(run: Callable[..., Kernel], start: str, kind: str) -> None:
    is_async = "@expose\nasync def nothing(self): ..." if kind == "async" else ""
    kernel = run(is_async)
    pid = kernel.info("one").pid
    assert pid
    kernel.call("one.do", f"for _ in range(20):\n    {start}", timeout=40)
    eventually(lambda: not children(pid))
    assert kernel.call("one.pid") == pid


def test_orphans_of_a_thread_are_reaped_while_the_main_thread_waits(run: Callable[..., Kernel]) -> None:
    kernel = run()
    pid = kernel.info("one").pid
    assert pid
    code = """
def work():
    for _ in range(5): subprocess.run(["sh", "-c", "(sleep .1 &)"])
self.api.spawn(work)
"""
    kernel.call("one.do", code)
    eventually(lambda: children(pid))
    eventually(lambda: not children(pid))


def test_a_plugin_that_keeps_starting_processes_is_scanned_meanwhile(run: Callable[..., Kernel]) -> None:
    kernel = run()
    code = """
def zombies():
    return [p for p in os.listdir("/proc") if p.isdigit() and stat(p)[:2] == ["Z", str(os.getpid())]]
def stat(p):
    try:
        with open(f"/proc/{p}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:  # it has gone meanwhile
        return []
subprocess.run(["sh", "-c", "(true &) ; (true &)"])
until = time.monotonic() + 20
seen = False
while time.monotonic() < until and not (seen and not zombies()):
    seen = seen or bool(zombies())
    subprocess.run(["true"])
result = [seen, zombies()]
"""
    assert kernel.call("one.do", code, timeout=40) == [True, []]


def test_exit_statuses_are_the_plugins_while_orphans_are_reaped(run: Callable[..., Kernel]) -> None:
    kernel = run()
    code = """
held = [subprocess.Popen(["sh", "-c", "exit 7"]) for _ in range(5)]
held_pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], os.environ)
until, statuses = time.monotonic() + 3.2, set()
def work():
    while time.monotonic() < until:
        statuses.add(subprocess.run(["sh", "-c", "(true &) ; exit 7"]).returncode)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
result = [sorted(statuses), [each.wait() for each in held], os.waitstatus_to_exitcode(os.waitpid(held_pid, 0)[1])]
"""
    assert kernel.call("one.do", code, timeout=40) == [[7], [7] * 5, 6]


# The end


def stopped(kernel: Kernel) -> float:
    began = time.monotonic()
    kernel.stop("one")
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("context", ["fork", "default"])
def test_a_live_process_pool_ends_silently(run: Callable[..., Kernel], kind: str, context: str) -> None:
    kernel = run("@expose\nasync def nothing(self): ..." if kind == "async" else "")
    given = "" if context == "default" else f", mp_context=multiprocessing.get_context({context!r})"
    code = f"self.pool = concurrent.futures.ProcessPoolExecutor(2{given}); "
    code += "result = list(self.pool.map(" + ("square" if context == "default" else "abs") + ", range(4)))"
    assert kernel.call("one.do", code, timeout=30) == ([0, 1, 4, 9] if context == "default" else [0, 1, 2, 3])
    assert stopped(kernel) < 1.9
    assert output(kernel) == ""


WAYS = {
    "threading._register_atexit": "threading._register_atexit(print, 'ended')",
    "atexit": "atexit.register(print, 'ended')",
    "a thread that is no daemon": "threading.Thread(target=late).start()",
    "a pool of threads": "self.pool = concurrent.futures.ThreadPoolExecutor(1); self.pool.submit(late)",
    "a pool of multiprocessing": """
        self.pool = multiprocessing.get_context('fork').Pool(2)
        self.pool.map(abs, [1])
        print('ended')
    """,
    "a process that is waited for": "multiprocessing.get_context('fork').Process(target=late).start()",
    "a finalizer of multiprocessing": """
        import multiprocessing.util
        multiprocessing.util.Finalize(None, print, ['ended'], exitpriority=1)
    """,
    "weakref.finalize": "self.kept = weakref.finalize(self, print, 'ended')",
    "an object": "self.last = Last()",
    "an object of the module": "sys.modules[type(self).__module__].last = Last()",
    "logging.shutdown": """
        import logging.handlers
        logger = logging.getLogger('x')
        logger.propagate = False
        logger.addHandler(logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout)))
        logger.warning('ended')
    """,
    "output without a newline": "print('ended', end='')",
    "a loop in a thread": """
        async def main():
            await asyncio.sleep(0.3)
            print('ended')
        threading.Thread(target=lambda: asyncio.run(main())).start()
    """,
}
LATE = """
def late():
    time.sleep(0.3)
    print("ended", flush=True)
class Last:
    def __del__(self): print("ended")
"""


@pytest.mark.parametrize("way", WAYS)
def test_what_ends_cleanly_in_a_python_program_ends_cleanly_in_a_worker(run: Callable[..., Kernel], way: str) -> None:
    kernel = run()
    kernel.call("one.do", LATE + textwrap.dedent(WAYS[way]), timeout=20)
    assert stopped(kernel) < 1.9
    assert output(kernel).count("ended") == 1
    assert "Traceback" not in output(kernel)


def test_a_file_that_was_not_closed_is_written(run: Callable[..., Kernel], tmp_path: Path) -> None:
    kernel = run()
    code = f"""
import gzip, sys
self.file = open({str(tmp_path / "text")!r}, "w"); self.file.write("buffered")
sys.held = open({str(tmp_path / "held")!r}, "wb"); sys.held.write(b"buffered")
self.zipped = gzip.open({str(tmp_path / "zipped")!r}, "wt"); self.zipped.write("buffered")
"""
    kernel.call("one.do", code)
    kernel.stop("one")
    import gzip

    with gzip.open(tmp_path / "zipped", "rt") as zipped:
        assert zipped.read() == (tmp_path / "text").read_text() == (tmp_path / "held").read_text() == "buffered"


def test_an_error_at_exit_does_not_delay_the_exit(run: Callable[..., Kernel]) -> None:
    kernel = run()
    code = """
def bad(): raise ValueError("at the end")
atexit.register(print, "ended")
atexit.register(bad)
threading._register_atexit(bad)
"""
    kernel.call("one.do", code)
    assert stopped(kernel) < 1.9
    assert output(kernel).count("ValueError: at the end") == 2
    assert "ended" in output(kernel)


def test_an_endless_thread_ends_with_its_plugin(run: Callable[..., Kernel]) -> None:
    kernel = run()
    code = "threading.Thread(target=threading.Event().wait).start(); atexit.register(print, 'ended')"
    kernel.call("one.do", code)
    kernel.stop("one")
    assert kernel.info("one").state == "stopped"
    assert "ended" in output(kernel)


# SIGTERM before there is a plugin


@pytest.mark.parametrize("at", ["before Load", "in the module", "in __init__"])
def test_a_sigterm_before_the_plugin_is_loaded_ends_it_without_a_traceback(tmp_path: Path, at: str) -> None:
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    module, init = (kill, "") if at == "in the module" else ("", kill)
    (tmp_path / "one.py").write_text(
        f"{HEADER}\nif not os.path.exists({str(tmp_path / 'once')!r}):\n    open({str(tmp_path / 'once')!r}, 'w')\n"
        f"    {module or 'pass'}\n    kill = True\nelse:\n    kill = False\nclass Plugin(IPlugin):\n"
        f"    def __init__(self, api):\n        if kill: {init or 'pass'}\n"
        "    def start(self): ...\n    def stop(self): ...\n"
    )
    if at == "before Load":
        assert sigterm_before_load() == (-1, "")
        return
    with Kernel(tmp_path / "one.py") as kernel:
        eventually(lambda: kernel.info("one").state == "active")
        assert kernel.info("one").restarts == 1
        assert "AttributeError" not in output(kernel)


def sigterm_before_load() -> tuple[int, str]:
    """Send SIGTERM to a runtime that waits for its Load. Return its exit status and errors; -1 if it reported its
    exit."""
    code = """
import os, signal, socket
from microkernel.sdk.runtime.runtime import Runtime
from microkernel.wire.session import Session
from microkernel.worker.worker_channel import WorkerChannel
from microkernel.worker.main import _on_term
pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
runtime = Runtime(WorkerChannel(pairs[0][1], pairs[1][1], []))
signal.signal(signal.SIGTERM, _on_term)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
signal.setitimer(signal.ITIMER_REAL, 0.1)
runtime.run()
session = Session("kernel")
said = [message for _ in range(2) for message in session.receive(pairs[1][0].recv(65536))]
assert type(said[0]).__name__ == "SelfExit", said
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    return -1 if done.returncode == 0 else done.returncode, done.stderr


def test_a_sigterm_to_an_idle_worker_is_reported_as_its_cause_of_exit(run: Callable[..., Kernel]) -> None:
    kernel = run()
    pid = kernel.info("one").pid
    assert pid
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: kernel.info("one").restarts == 1 and kernel.info("one").state == "active")
    with pytest.raises(PluginDied):
        kernel.call("one.do", "os.kill(os.getpid(), signal.SIGTERM)")
    assert threading.active_count()
