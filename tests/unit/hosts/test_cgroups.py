"""Control groups of workers: on this machine's own where it has some, otherwise on a copy in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from microkernel.hosts.worker import cgroup_layout, cgroups
from microkernel.hosts.worker.cgroup_layout import Layout, Unavailable, find
from microkernel.hosts.worker.cgroups import Groups
from tests.harness.leftovers import gone
from tests.security.attacks.support import eventually

_MiB = 1 << 20
_CHILD = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(3600)
    os._exit(0)
os.wait()
time.sleep(3600)
"""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def groups(opened: ExitStack) -> Groups:
    made = Groups()
    opened.callback(made.close)
    made.open()
    if made.layout is None:
        pytest.skip(f"no control groups here: {made.reason}")
    return made


def sleeper(opened: ExitStack) -> subprocess.Popen[bytes]:
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    opened.enter_context(running)
    opened.callback(running.kill)
    return running


def is_in(groups: Groups, pid: int) -> bool:
    return f"/{os.path.basename(groups._bases['memory'])}/{pid}" in Path(f"/proc/{pid}/cgroup").read_text()


def folders(groups: Groups, pid: int) -> list[str]:
    return [path for path in (f"{base}/{pid}" for base in groups._bases.values()) if os.path.exists(path)]


def test_a_worker_is_moved_and_its_limits_are_read_back(opened: ExitStack) -> None:
    made, worker = groups(opened), sleeper(opened)
    made.adopt(worker.pid)
    eventually(lambda: worker.pid in made._moved)
    assert is_in(made, worker.pid)
    group = made.claim(worker.pid)
    assert group.enforced() == frozenset()  # no limit was set
    group.limit(512 * _MiB, 64)
    assert group.enforced() == {"memory", "threads"}
    assert made.layout is not None
    group.limit(512 * _MiB, 64, 0.5)
    assert ("processors" in group.enforced()) == ("cpu" in made.layout.folders)


def test_a_limit_applies_to_a_worker_that_is_moved_later(opened: ExitStack) -> None:
    made, worker = groups(opened), sleeper(opened)
    group = made.claim(worker.pid)
    group.limit(512 * _MiB, 64)
    eventually(lambda: group.enforced() == {"memory", "threads"})


def test_limits_are_not_reported_as_enforced_for_another_process(opened: ExitStack) -> None:
    made, worker = groups(opened), sleeper(opened)
    group = made.claim(worker.pid)
    group.limit(512 * _MiB, 64)
    eventually(lambda: bool(group.enforced()))
    worker.kill()
    worker.wait()
    assert group.enforced() == frozenset()


def test_the_system_kills_a_group_that_exceeds_its_memory(opened: ExitStack) -> None:
    made = groups(opened)
    code = "import sys; sys.stdin.readline(); kept = bytearray(b'x') * (256 << 20); sys.stdin.readline()"
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    opened.enter_context(worker)
    opened.callback(worker.kill)
    group = made.claim(worker.pid)
    group.limit(64 * _MiB, 64)
    eventually(lambda: "memory" in group.enforced())
    assert worker.stdin is not None
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    assert worker.wait(30) == -9
    assert group.oom_kills() >= 1


def test_ending_a_group_kills_all_processes_in_it(opened: ExitStack) -> None:
    """A process that became an orphan is included."""
    made = groups(opened)
    code = f"import sys; sys.stdin.readline(){_CHILD}"
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    opened.enter_context(worker)
    opened.callback(worker.kill)
    group = made.claim(worker.pid)
    eventually(lambda: worker.pid in made._moved)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    daemon = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    assert not gone(daemon)
    group.end()
    eventually(lambda: gone(daemon), "the daemon has ended")
    made.adopt(sleeper(opened).pid)  # a removal that had to wait is retried
    eventually(lambda: not folders(made, worker.pid), "its groups are removed")


def test_processes_that_a_worker_started_before_its_move_are_moved_too(opened: ExitStack) -> None:
    made = groups(opened)
    code = "import os, time\nif os.fork() == 0:\n os.fork()\n print('.', flush=True)\ntime.sleep(3600)"
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    opened.enter_context(worker)
    opened.callback(os.killpg, worker.pid, 9)
    assert worker.stdout is not None
    worker.stdout.readline()
    worker.stdout.readline()
    made.adopt(worker.pid)
    eventually(lambda: worker.pid in made._moved)
    found = Path(f"{made._bases['pids']}/{worker.pid}/cgroup.procs").read_text().split()
    assert len(found) == 3


def test_nothing_is_left_when_a_kernel_ends(opened: ExitStack) -> None:
    made, worker = groups(opened), sleeper(opened)
    made.adopt(worker.pid)
    eventually(lambda: worker.pid in made._moved)
    bases = [*made._bases.values()]
    made.close()
    made.close()
    assert worker.wait(10) == -9
    assert [base for base in bases if os.path.exists(base)] == []


def test_two_kernels_leave_each_others_groups_alone(opened: ExitStack) -> None:
    one, worker = groups(opened), sleeper(opened)
    one.adopt(worker.pid)
    eventually(lambda: worker.pid in one._moved)
    other = groups(opened)
    other.adopt(sleeper(opened).pid)
    eventually(lambda: bool(other._moved))  # after its sweep, which comes first
    assert is_in(one, worker.pid)
    other.close()
    assert is_in(one, worker.pid)


def test_the_next_kernel_ends_groups_that_a_killed_kernel_left(opened: ExitStack) -> None:
    killed, worker = groups(opened), sleeper(opened)
    killed.adopt(worker.pid)
    eventually(lambda: worker.pid in killed._moved)
    bases = [*killed._bases.values()]
    os.close(killed._handle)  # its lock is released with it
    killed._handle = os.open(os.devnull, os.O_RDONLY)
    groups(opened)
    assert worker.wait(30) == -9
    eventually(lambda: not any(map(os.path.exists, bases)), "its groups are removed")


def test_without_control_groups_no_limit_is_reported_as_enforced() -> None:
    def none() -> Layout:
        raise Unavailable("needs delegation")

    made = Groups(none)
    made.open()
    group = made.claim(os.getpid())
    group.limit(512 * _MiB, 64)
    assert (group.enforced(), group.oom_kills(), made.describe(), made.reason) == (
        frozenset(),
        0,
        "",
        "needs delegation",
    )
    group.end()
    made.close()


# Version 2, which this machine may not have


class FakeHierarchy:
    """A version 2 hierarchy, as far as it is written to and read."""

    def __init__(self, root: Path, own: str, controllers: str = "cpu memory pids", others: bool = False) -> None:
        self.root = root
        self.about = root / "about"
        self.about.write_text(f"0::{own}\n")
        self.group = root / "app"
        self.group.mkdir()
        (self.group / "cgroup.controllers").write_text(controllers)
        self.written: list[tuple[str, str]] = []
        self._others = others

    def write(self, path: str, content: str) -> None:
        self.written.append((str(Path(path).relative_to(self.root)), content))
        if self._others and path.endswith("subtree_control"):
            raise OSError(16, "Device or resource busy")

    def attribute(self, path: str, name: str) -> bytes:
        if path == str(self.group) and name == "user.delegate":
            return b"1"
        raise OSError(61, "No data available")

    def find(self, delegated: bool = True) -> Layout:
        def none(path: str, name: str) -> bytes:
            raise OSError(61, "No data available")

        return find(str(self.about), str(self.root), self.attribute if delegated else none)


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHierarchy:
    made = FakeHierarchy(tmp_path, "/app")
    monkeypatch.setattr(cgroup_layout, "write", made.write)
    return made


def test_a_delegated_group_is_used_after_this_process_has_moved_out_of_it(second: FakeHierarchy) -> None:
    layout = second.find()
    assert layout.describe() == "cgroups v2 (memory, pids, cpu)"
    assert layout.folders == dict.fromkeys(("memory", "pids", "cpu"), str(second.group))
    assert second.written == [
        ("app/kernel/cgroup.procs", str(os.getpid())), ("app/cgroup.subtree_control", "+memory +pids +cpu"),
    ]  # fmt: skip
    assert layout.limits(512 * _MiB, 64, 1.5) == [
        ("memory", "memory.max", "536870912"), ("memory", "memory.swap.max", "0"), ("pids", "pids.max", "64"),
        ("cpu", "cpu.max", "150000 100000"),
    ]  # fmt: skip


def test_a_second_host_finds_the_group_that_the_first_moved_out_of(second: FakeHierarchy) -> None:
    (second.group / "kernel").mkdir()
    (second.group / "kernel" / "cgroup.controllers").write_text("cpu memory pids")
    second.about.write_text("0::/app/kernel\n")
    assert second.find().folders["memory"] == str(second.group)


def test_nothing_is_written_without_delegation(second: FakeHierarchy) -> None:
    with pytest.raises(Unavailable, match="needs delegation: systemd-run --user --scope -p Delegate=yes"):
        second.find(delegated=False)
    assert second.written == []


def test_nothing_is_written_without_the_controllers(second: FakeHierarchy) -> None:
    (second.group / "cgroup.controllers").write_text("cpu hugetlb")
    with pytest.raises(Unavailable, match="memory and pids are not delegated"):
        second.find()
    assert second.written == []


def test_a_group_with_other_processes_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = FakeHierarchy(tmp_path, "/app", others=True)
    monkeypatch.setattr(cgroup_layout, "write", second.write)
    with pytest.raises(Unavailable, match="other processes are in the same group"):
        second.find()
    assert second.written[-1] == ("app/cgroup.procs", str(os.getpid()))
    assert not (second.group / "kernel").exists()


@pytest.mark.parametrize(("own", "reason"), [
    ("3:memory:/\n2:pids:/\n0::/\n", "this user may make none in version 1"),
    ("1:name=systemd:/\n0::/\n", "none is mounted"),
    ("", "none is mounted"),
])  # fmt: skip
def test_the_reason_for_missing_control_groups_is_reported(tmp_path: Path, own: str, reason: str) -> None:
    (tmp_path / "about").write_text(own)
    with pytest.raises(Unavailable, match=reason):
        find(str(tmp_path / "about"), str(tmp_path))


def test_the_limits_of_version_one(tmp_path: Path) -> None:
    (tmp_path / "about").write_text("3:memory:/docker/1\n2:pids:/\n1:cpu,cpuacct:/\n0::/\n")
    for folder in ("memory", "pids"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cgroup.procs").touch()
    layout = find(str(tmp_path / "about"), str(tmp_path))
    assert layout.folders == {"memory": str(tmp_path / "memory"), "pids": str(tmp_path / "pids")}
    assert layout.limits(1, 2) == [
        ("memory", "memory.limit_in_bytes", "1"), ("memory", "memory.memsw.limit_in_bytes", "1"),
        ("pids", "pids.max", "2"),
    ]  # fmt: skip


def test_descendants_are_found_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_children", lambda pid: [pid + 1] if pid < 5_000 else [])
    assert list(cgroups._descendants(1)) == list(range(2, 5_001))
