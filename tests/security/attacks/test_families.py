"""Ends: of what plugins start, of the zygote, and of the kernel itself. Nothing is left."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from microkernel.errors import PluginDied
from microkernel.hosts.worker import zygote
from microkernel.hosts.worker.cgroups import Groups
from tests.harness.leftovers import descendants, gone
from tests.security.attacks.families import Family
from tests.security.attacks.support import Plugins, Script, eventually, state_is
from tests.security.attacks.test_ends import busy


@pytest.mark.parametrize("how", ["kill", "stop", "reload", "unload", "crash", "leave", "close"])
def test_all_descendants_end_with_their_plugin(plugins: Plugins, how: str) -> None:
    bad, other = (Family(plugins, name, supervision={"restart": "temporary"}) for name in ("bad", "other"))
    with plugins.kernel() as kernel:
        bad.wait_until_whole()
        other.wait_until_whole()
        if how in ("crash", "leave"):
            kernel.emit(how)
            state_is(kernel, "bad", "stopped")
            state_is(kernel, "other", "stopped")
        elif how == "close":
            kernel.close()
        else:
            getattr(kernel, how)("bad")
            other.wait_until_whole()
        assert bad.is_extinct(1)
        if how == "reload":
            bad.wait_until_whole()
    assert bad.is_extinct()
    assert other.is_extinct()


LEAPING = """
import fcntl, os, time
from microkernel.worker.process_setup import adopt_orphans
def leap(until, gap):
    while time.monotonic() < until:
        if os.fork(): os._exit(0)
        time.sleep(gap)
    os._exit(0)
for turn in range(40):
    lock = os.open("lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_SH)
{body}
    with open("lock") as file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("none was missed", flush=True)
"""
BY_ZYGOTE = """
    from microkernel.worker.zygote.server import kill_children
    def reap():
        try:
            while os.waitpid(-1, os.WNOHANG)[0]: pass
        except ChildProcessError: pass
    adopt_orphans()
    if os.fork() == 0: leap(time.monotonic() + 10, 0)
    os.close(lock)
    while kill_children(os.getpid()): reap()
"""
BY_KERNEL = """
    from microkernel.hosts.procfs.trees import end_trees
    worker = os.fork()
    if worker == 0:
        adopt_orphans()
        if os.fork() == 0: leap(time.monotonic() + 10, 0.01)
        os.close(lock)
        time.sleep(60)
    os.close(lock)
    time.sleep(0.02)
    end_trees([worker])
    os.waitpid(worker, 0)
"""


@pytest.mark.parametrize("body", [BY_ZYGOTE, BY_KERNEL], ids=["by the zygote", "by the kernel"])
def test_sweep_misses_no_process_that_keeps_forking(body: str, tmp_path: Path) -> None:
    script = Script(LEAPING.format(body=body), tmp_path)
    assert script.end() == (0, "none was missed\n", "")


@pytest.mark.parametrize("when", ["while it starts", "over a fork"])
def test_zygote_killed_during_a_start_is_replaced(plugins: Plugins, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another takes its place and is asked: the plugin never notices."""
    plugins.healthy()
    plugins.healthy("second")
    killed = []

    def kill_first(zygote: int) -> None:
        if not killed:
            killed.append(zygote)
            os.kill(zygote, signal.SIGSTOP if when == "over a fork" else signal.SIGKILL)

    spawn = zygote._spawn

    def spawned(*args: object) -> object:
        process = spawn(*args)
        if when == "while it starts":
            kill_first(process.pid)
        return process

    monkeypatch.setattr(zygote, "_spawn", spawned)
    with plugins.kernel() as kernel:
        if when == "over a fork":
            kernel.stop("second")
            (pid_of_zygote,) = [
                pid for pid, line in descendants(os.getpid()).items() if "zygote" in line and _is_ours(pid)
            ]
            kill_first(pid_of_zygote)
            threading.Timer(0.2, os.kill, (pid_of_zygote, signal.SIGKILL)).start()
            kernel.start("second")
        assert kernel.call("second.answer") == 42
        state_is(kernel, "healthy", "active")
        assert kernel.call("healthy.answer") == 42


def _is_ours(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1] == str(os.getpid())


def test_plugins_restart_uncharged_after_a_plugin_kills_the_zygote(plugins: Plugins) -> None:
    """All come back, at no cost to their budgets; of the old ones nothing is left."""
    family = Family(plugins, "bad", supervision={"intensity": 0})
    for number in range(5):
        plugins.healthy(f"healthy{number}", supervision={"intensity": 0})
    with plugins.kernel() as kernel:
        family.wait_until_whole()
        names = [info.name for info in kernel.list()]
        for generation in 2, 3:
            pids = [info.pid for info in kernel.list()]
            with pytest.raises(PluginDied):
                kernel.call("bad.zygote", timeout=60)
            for name in names:
                eventually(lambda n=name, g=generation: kernel.info(n).generation == g, name)
                state_is(kernel, name, "active")
            eventually(lambda p=pids, g=generation: all(map(gone, p)) and family.is_extinct(g - 1), "nothing is left")
            assert all(kernel.core.registry.get(name).history == () for name in names)
            assert all(kernel.call(f"healthy{number}.answer") == 42 for number in range(5))
            family.wait_until_whole()
    assert family.is_extinct()


# The kernel's own end

RUNNING = """
import os, select, sys, threading
from microkernel import Kernel
with Kernel({folder!r}, isolation="process") as kernel:
    pids = [info.pid for info in kernel.list()] + [kernel._hosts._hosts["process"].zygote_pid]
    for info in kernel.list():
        if info.name.startswith("busy"):
            work = lambda name=info.name: kernel.call(name + ".work", os.devnull, timeout=1000)
            threading.Thread(target=work, daemon=True).start()
    print(*pids, flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pass  # input() would sleep through a signal that comes just before it reads
"""


def running(plugins: Plugins, tmp_path: Path) -> tuple[Script, list[int], Family]:
    family = Family(plugins, "family")
    plugins.healthy()
    for work in "spin", "sleep", "swallow", "sum", "stopped", "deaf":
        busy(plugins, f"busy_{work}", work)
    script = Script(RUNNING.format(folder=str(plugins.folder)), tmp_path)
    pids = [int(pid) for pid in script.line().split()]
    assert len(pids) == 9, script.errors.read_text()
    family.wait_until_whole()
    return script, pids, family


def all_gone(pids: list[int], *families: Family) -> bool:
    return all(map(gone, pids)) and all(family.is_extinct() for family in families)


def test_all_processes_end_when_the_kernel_is_killed(plugins: Plugins, tmp_path: Path) -> None:
    script, pids, family = running(plugins, tmp_path)
    script.kill()
    eventually(lambda: all_gone(pids, family), f"nothing is left of {pids}")
    script.end()


def test_all_processes_end_when_the_kernel_is_killed_during_starts(plugins: Plugins, tmp_path: Path) -> None:
    families = [Family(plugins, f"p{number}") for number in range(20)]
    script = Script(RUNNING.format(folder=str(plugins.folder)), tmp_path)
    eventually(lambda: sum(len(family.members()) for family in families) > 10)
    everybody = descendants(script.pid)
    script.kill()
    eventually(lambda: all_gone(list(everybody), *families), "nothing is left")
    script.end()


def test_workers_end_when_kernel_and_zygote_are_killed_together(plugins: Plugins, tmp_path: Path) -> None:
    """The workers die of the lifeline; what daemonised itself may live on, which is documented."""
    script, pids, family = running(plugins, tmp_path)
    try:
        os.kill(pids[-1], signal.SIGSTOP)  # so that the one cannot clean up after the other
        script.kill()
        os.kill(pids[-1], signal.SIGKILL)
        eventually(lambda: all_gone(pids), f"no worker is left of {pids}")
    finally:
        script.end()
        family.kill()


def test_processes_left_by_a_killed_kernel_are_ended_by_the_next(plugins: Plugins, tmp_path: Path) -> None:
    """Where there are control groups: nothing else knows whose a daemon is."""
    groups = Groups()
    groups.open()
    if not groups.describe():
        pytest.skip(f"no control groups here: {groups.reason}")
    script, pids, family = running(plugins, tmp_path)
    try:
        os.kill(pids[-1], signal.SIGSTOP)
        script.kill()
        os.kill(pids[-1], signal.SIGKILL)
        eventually(lambda: all(map(gone, pids)))
        groups.close()
        groups = Groups()
        groups.open()
        eventually(lambda: all_gone(pids, family), "nothing is left")
    finally:
        groups.close()
        script.end()
        family.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV])
def test_all_processes_end_when_a_signal_ends_the_kernel(
    plugins: Plugins, tmp_path: Path, number: signal.Signals
) -> None:
    script, pids, family = running(plugins, tmp_path)
    os.kill(script.pid, number)
    eventually(lambda: all_gone(pids, family), f"nothing is left of {pids}")
    script.end()


FORKS = {
    "os.fork": """
    child = os.fork()
    if child == 0:
        tries()
        time.sleep(3600)
    say(child)""",
    "multiprocessing": """
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=lambda: (tries(), time.sleep(3600)), daemon=True)
    child.start()
    say(child.pid)""",
}
FORKING = """
import os, sys, time
from microkernel import Kernel
from microkernel.errors import KernelClosed
def say(*words): os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # two processes: a line is one write
def tries():
    for work in (lambda: kernel.call("healthy.answer"), lambda: kernel.emit("x"), kernel.list,
                 lambda: kernel.load("x.py"), lambda: kernel.kill("healthy"), lambda: kernel.set_data("a", 1),
                 lambda: kernel.on("x", print)):
        try: work()
        except KernelClosed: say("closed")
        except BaseException as error: say(repr(error))
    kernel.close()
with Kernel({folder!r}, isolation="process") as kernel:
    {fork}
    input()
    pids = [info.pid for info in kernel.list()] + [kernel._hosts._hosts["process"].zygote_pid]
    say(kernel.call("healthy.answer"), *pids)
    input()
{last}
"""


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("end", ["normal", "killed"])
def test_forked_child_of_the_embedder_cannot_use_its_kernel(
    plugins: Plugins, tmp_path: Path, fork: str, end: str
) -> None:
    plugins.healthy()
    family = Family(plugins, "family")
    script = Script(FORKING.format(folder=str(plugins.folder), fork=FORKS[fork], last="os._exit(0)"), tmp_path)
    lines = [script.line() for _ in range(8)]
    child = int(next(line for line in lines if line.isdigit()))
    try:
        assert lines.count("closed") == 7, lines
        script.tell()
        answer, *pids = map(int, script.line().split())
        assert answer == 42
        family.wait_until_whole()
        script.tell() if end == "normal" else script.kill()
        eventually(lambda: all_gone(pids, family), "nothing is left")
        assert not gone(child)
    finally:
        os.kill(child, signal.SIGKILL)
    script.end()
