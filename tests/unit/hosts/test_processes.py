"""State of a process, as the system reports it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.hosts.confined.lock_usage import MAX_LOCKS, count_locks
from microkernel.hosts.procfs import processes
from microkernel.hosts.procfs.processes import is_stopped, is_waiting
from microkernel.kernel.config import KernelConfig
from microkernel.testing.harness import plugin
from tests.harness.waiting import eventually

_BEGINS = "import asyncio, select, socket, threading, time; a, b = socket.socketpair(type=socket.SOCK_SEQPACKET)"


@contextmanager
def process(code: str) -> Iterator[int]:
    """Start a process. Return its pid once it is running."""
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
def test_a_process_that_waits_at_a_socket_is_distinguished_from_one_that_sleeps(code: str, waits: bool) -> None:
    with process(code) as pid:
        eventually(lambda: is_waiting(pid) is waits, code)
        assert not is_stopped(pid)
    assert not is_waiting(pid)


def test_a_limit_that_was_not_set_is_not_reported_as_a_protection(tmp_path: Path) -> None:
    """The system limits the descriptors of every process; a plugin's limit is the one that was set for it."""
    (tmp_path / "p.py").write_text(plugin(""))
    for limits, shown in (({}, "unavailable"), ({"files": 64}, "enforced")):
        config = KernelConfig(data_dir=str(tmp_path / "data"), limits=limits)
        with Kernel(tmp_path / "p.py", config, isolation="process") as kernel:
            assert kernel.info("p").protections["files"] == shown


_LOCKS = """
import fcntl, tempfile
file = tempfile.TemporaryFile()
for at in range({count}): fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * at)
print(flush=True); time.sleep(1000)
"""


def locks_of(pid: int) -> int:
    looking = count_locks(pid)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            return int(end.value)


@pytest.mark.parametrize("count", [0, 3, MAX_LOCKS + 10])
def test_record_locks_are_counted(count: int) -> None:
    command = [sys.executable, "-c", f"import time{_LOCKS.format(count=count)}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert locks_of(running.pid) == count
        running.kill()
    assert locks_of(running.pid) == 0


_ZEROES = """
import ctypes
libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p
size, step = 6 << 30, 2 << 20
start = libc.mmap(None, ctypes.c_size_t(size), 1, 0x4022, -1, ctypes.c_long(0))
libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), 15)
libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), 22)
print(flush=True); time.sleep(1000)
"""


def test_pages_of_zeroes_are_not_visited_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[str] = []
    with subprocess.Popen([sys.executable, "-c", f"import time{_ZEROES}"], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        read_file = processes.read_file

        def read(pid: int, file: str, *, may_wait: bool = False) -> bytes:
            files.append(file)
            return read_file(pid, file, may_wait=may_wait)

        monkeypatch.setattr(processes, "read_file", read)
        if int(processes.fields_of(running.pid, "status")[b"VmPTE"].split()[0]) < 8 * 1024:
            running.kill()
            pytest.skip("this system makes no page tables for them")
        files.clear()
        found = processes.statistics_of(running.pid, ())
        running.kill()
    assert 0 < found["memory"] < 64 << 20
    assert "smaps_rollup" not in files
