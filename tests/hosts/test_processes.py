"""What the system tells of a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.hosts._processes import is_stopped, is_waiting
from microkernel.kernel.manifest import KernelConfig
from microkernel.testing.stage import plugin
from tests.attacks.support import eventually

_BEGINS = "import asyncio, select, socket, threading, time; a, b = socket.socketpair(type=socket.SOCK_SEQPACKET)"


@contextmanager
def process(code: str) -> Iterator[int]:
    """Its pid, once it has said that it begins."""
    command = [sys.executable, "-c", f"{_BEGINS}; print(flush=True); {code}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running.pid
        running.kill()


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("a.recv(1)", True),
        ("select.select([a], [], [])", True),
        ("p = select.poll(); p.register(a, select.POLLIN); p.poll()", True),
        ("asyncio.run(asyncio.Event().wait())", True),
        ("time.sleep(1000)", False),
        ("(lock := threading.Lock()).acquire(); lock.acquire()", False),
        ("any(iter(int, 1))", False),
    ],
)
def test_who_waits_at_a_socket_is_told_from_who_sleeps(code: str, waits: bool) -> None:
    with process(code) as pid:
        eventually(lambda: is_waiting(pid) is waits, code)
        assert not is_stopped(pid)
    assert not is_waiting(pid)


def test_a_limit_that_nobody_set_protects_nobody(tmp_path: Path) -> None:
    """The system has one on descriptors for every process; that of a plugin is what was set for it."""
    (tmp_path / "p.py").write_text(plugin(""))
    for limits, shown in (({}, "unavailable"), ({"files": 64}, "enforced")):
        config = KernelConfig(data_dir=str(tmp_path / "data"), limits=limits)
        with Kernel(tmp_path / "p.py", config, isolation="process") as kernel:
            assert kernel.info("p").protections["files"] == shown
