"""Zygotes: their exit with the kernel, and the state that they give their workers."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.hosts.worker.zygote import _spawn
from tests.harness.waiting import eventually


def test_a_kernel_that_exits_with_unread_answers_is_noticed() -> None:
    # A killed kernel has usually not read everything: the zygote then gets ECONNRESET, not end-of-file.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lifeline, our_lifeline = os.pipe()
    zygote = _spawn(sys.executable, "process", "", theirs.fileno(), lifeline)
    theirs.close()
    os.close(lifeline)
    assert select.select([ours], [], [], 20)[0], "it says that it is ready"

    ours.close()

    _, words = zygote.communicate(timeout=20)
    os.close(our_lifeline)
    assert (zygote.returncode, words) == (0, b"")


PLUGIN = """
import os, sys
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): ...
    def stop(self): ...
    @expose
    def modules(self) -> list: return sorted(sys.modules)
    @expose
    def environment(self) -> dict: return dict(os.environ)
"""


def test_a_worker_loads_nothing_but_its_plugin(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(PLUGIN)
    zygotes = "import sys; from microkernel.worker.zygote.server import main; print(*sys.modules)"
    before = subprocess.run([sys.executable, "-c", zygotes], capture_output=True, text=True, check=True).stdout.split()
    with Kernel(tmp_path) as kernel:
        later = set(kernel.call("one.modules")) - set(before)
    assert [name for name in later if name.partition(".")[0] != "mkplugin"] == []


def test_one_worker_is_always_forked_ahead_and_replaced_if_it_dies(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text(PLUGIN)
    with Kernel(tmp_path / "one.py") as kernel:

        def ahead() -> set[int]:
            zygote = kernel._hosts._hosts["process"].zygote_pid  # type: ignore[attr-defined]
            return children(zygote) - {info.pid for info in kernel.list()}

        for name in ("two", "three"):
            spares = eventually(ahead)
            assert {kernel.load(tmp_path / f"{name}.py").pid} == spares
        os.kill(eventually(ahead).pop(), signal.SIGKILL)
        eventually(lambda: not ahead())
        kernel.kill("one")
        assert kernel.start("one").state == "active"


def test_a_worker_that_fails_in_its_setup_never_continues_as_a_zygote() -> None:
    code = """
import os
from microkernel.worker.zygote.prefork import PreforkedWorker
def prepare(): raise OSError
worker = PreforkedWorker(prepare, print, print)
status = os.waitpid(worker.pid, 0)[1]
worker.assign([])
print(os.waitstatus_to_exitcode(status), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, "OSError" in done.stderr) == ("70\n", True)


@pytest.mark.parametrize(("quiet", "said"), [(0.0, "rehearsing beginning"), (60.0, "beginning")])
def test_a_worker_that_is_not_needed_yet_warms_up(quiet: float, said: str) -> None:
    code = f"""
import os
from functools import partial
from microkernel.worker.zygote import prefork
prefork._IDLE_SECONDS = {quiet}
read, write = os.pipe()
def say(word, *_): os.write(write, word)
worker = prefork.PreforkedWorker(int, partial(say, b"rehearsing "), partial(say, b"beginning"))
words = os.read(read, 100) if not prefork._IDLE_SECONDS else b""
nothing = os.open(os.devnull, os.O_RDONLY)
worker.assign([nothing])
os.waitpid(worker.pid, 0)
print((words + os.read(read, 100)).decode())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == f"{said}\n"


def test_a_warm_up_leaves_nothing_behind() -> None:
    code = """
import logging, os, sys, threading
from microkernel.worker.zygote.warmup import warm_up
def look():
    loggers = set(logging.root.manager.loggerDict)
    return [os.listdir("/proc/self/fd"), set(sys.modules), threading.enumerate(), loggers]
warm_up()
before = look()
warm_up()
print(before == look(), any("rehearsal" in name for name in sys.modules if not name.startswith("microkernel")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("True False\n", "")


def test_a_worker_has_the_kernels_environment_and_nothing_of_the_zygotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text(PLUGIN)
    with Kernel(tmp_path) as kernel:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setenv("A_LATER_ONE", "1")
        kernel.stop("one")
        kernel.start("one")
        found = kernel.call("one.environment")
    assert ("HOME" in found, found["A_LATER_ONE"]) == (False, "1")


def children(pid: int | None) -> set[int]:
    """Return the children that are alive."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            found |= {int(entry.name)} if parent == str(pid) and state not in "ZX" else set()
    return found
