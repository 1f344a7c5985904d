"""The forks of the tests' preloaded zygotes are in no way different from zygotes that were executed."""

from __future__ import annotations

import os
import re
import resource
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.hosts.inspector_process import Inspector
from microkernel.kernel.manifest import Level
from tests.harness.preloaded_zygote import FORKING, preloaded_zygotes
from tests.harness.waiting import eventually

pytestmark = pytest.mark.skipif(not FORKING, reason="not on this machine")

PLUGIN = """
import gc, os, resource, signal, sys, threading, time
from microkernel import IPlugin, expose
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
def named(handler):
    return getattr(handler, "__qualname__", repr(handler))
class Plugin(IPlugin):
    def start(self): ...
    def stop(self): ...
    @expose
    def state(self) -> dict:
        return {
            "arguments": sys.argv, "path": [each for each in sys.path if "scratch" not in each],
            "flags": repr(sys.flags), "warnings": sys.warnoptions,
            "modules": sorted(sys.modules), "main": sorted(vars(sys.modules["__main__"])),
            "hooks": [type(each).__qualname__ for each in sys.meta_path],
            "variables": {**os.environ, "TMPDIR": ""}, "folder": os.getcwd(),
            "umask": [umask := os.umask(0), os.umask(umask)][0],
            "user": [*os.getresuid(), *os.getresgid(), *os.getgroups()], "nice": os.nice(0), "zone": time.tzname,
            "limits": [resource.getrlimit(n) for k, n in sorted(vars(resource).items()) if k.startswith("RLIMIT")],
            "signals": [named(signal.getsignal(each)) for each in sorted(signal.valid_signals())],
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "switch": sys.getswitchinterval(),
            "threads": len(threading.enumerate()), "main thread": threading.main_thread().native_id == os.getpid(),
            "collector": [gc.isenabled(), gc.get_threshold()], "streams": [repr(sys.stdout), repr(sys.stderr)],
            "descriptors": [each for each in range(256) if is_open(each)],
        }
"""
_FIELDS = re.compile(r"^(Umask|PPid|TracerPid|Uid|Gid|Groups|Threads|SigIgn|SigCgt|Cap\w+|NoNewPrivs|Seccomp):.*", re.M)


def _of(pid: int) -> dict[str, Any]:
    """What the system says of a process."""
    process = Path("/proc", str(pid))
    return {
        "status": [found.group() for found in _FIELDS.finditer((process / "status").read_text())],
        "limits": (process / "limits").read_text(),
        "folder": os.readlink(process / "cwd"),
        "session": os.getsid(pid) == pid,
        "group": os.getpgid(pid) == pid,
        "descriptors": sorted(re.sub(r"\d+", "", os.readlink(each)) for each in (process / "fd").iterdir()),
    }


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _has_forked_ahead(zygote: int) -> bool:
    """Whether it has a second worker, and waits: until then its descriptors change."""
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    return len(children) == 2 and "\nState:\tS" in Path(f"/proc/{zygote}/status").read_text()


def _look(folder: Path, level: Level) -> dict[str, dict[str, Any]]:
    """What can be seen of a worker, of its zygote and of an inspector."""
    with Kernel(folder, isolation=level) as kernel, closing(Inspector()) as inspector:
        assert inspector.ask("facts", "x = 1") == [{}, "absent", 0]
        worker = kernel.call("one.state")
        zygote = _parent(kernel.info("one").pid)
        eventually(lambda: _has_forked_ahead(zygote))
        return {"worker": worker, "zygote": _of(zygote), "inspector": _of(inspector.pid)}


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_a_fork_is_like_a_process_that_was_executed(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Also where the process that it is forked from started in another folder, with other variables and limits."""
    (tmp_path / "one.py").write_text(PLUGIN)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as forking:
        with pytest.MonkeyPatch.context() as before:
            before.setenv("TZ", "UTC")
            forking.enter_context(preloaded_zygotes(forking.enter_context(pytest.MonkeyPatch.context())))
            _look(tmp_path, level)
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        monkeypatch.chdir(tmp_path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0] - 1, limits[1]))
        request.addfinalizer(partial(resource.setrlimit, resource.RLIMIT_NOFILE, limits))
        forked = _look(tmp_path, level)
    executed = _look(tmp_path, level)
    for process, seen in executed.items():
        assert forked[process] == seen
