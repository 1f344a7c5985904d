"""System files that libraries open in passing: public ones can be read, neighbouring ones cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.hosts.confined.host import environment_of, pool_sizes
from microkernel.kernel.ports import LaunchSpec
from microkernel.wire.messages import Load
from tests.security.sandbox.conftest import KernelFactory

READABLE = {
    "content types": "import mimetypes; mimetypes.init(); result = mimetypes.guess_type('a.png')[0] == 'image/png'",
    "every list of content types that there is": """
import mimetypes
result = all([open(path).close() is None for path in mimetypes.knownfiles if os.path.isfile(path)])
""",
    "names of services": "result = socket.getservbyname('https') == 443 and socket.getservbyport(22) == 'ssh'",
    "names of protocols": "result = socket.getprotobyname('tcp') == 6",
    "the release of the system": "import platform; result = bool(platform.freedesktop_os_release()['ID'])",
    "the folders of fonts": """
result = all([isinstance(os.listdir(path), list) for path in ('/usr/share/fonts', '/etc/fonts') if os.path.isdir(path)])
""",
    "the time zone": "import zoneinfo; result = zoneinfo.ZoneInfo('Asia/Tokyo').key == 'Asia/Tokyo'",
    "the processors": "result = 'processor' in open('/proc/cpuinfo').read()",
    "the memory": "result = 'MemTotal' in open('/proc/meminfo').read()",
    "the load": "result = len(os.getloadavg()) == 3",
    "its control group": "result = ':' in open('/proc/self/cgroup').read()",
    "its control group by its number": "result = ':' in open(f'/proc/{os.getpid()}/cgroup').read()",
    "its own status": "result = f'Pid:\\t{os.getpid()}\\n' in open('/proc/self/status').read()",
    "its own memory use": "result = int(open('/proc/self/statm').read().split()[1]) > 0",
}  # fmt: skip
CLOSED = [
    "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/machine-id",
    "/etc", "/proc", "/proc/self", "/proc/self/environ", "/proc/self/mem", "/proc/self/mountinfo", "/proc/self/fd",
    "/proc/self/task", "/proc/stat", "/proc/interrupts", "/proc/net", "/proc/net/tcp", "/proc/1/status",
    "/proc/1/cgroup",
    "/sys", "/sys/fs/cgroup", "/sys/class/net", "/sys/devices/system/cpu", "/usr/share", "/var/log",
]  # fmt: skip


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with ExitStack() as stack:
        yield KernelFactory(tmp_path_factory.mktemp("system"), stack).kernel("sandbox", {})


def do(kernel: Kernel, code: str, **names: Any) -> Any:
    return kernel.call("p.do", code, names, timeout=30.0)


@pytest.mark.parametrize("name", READABLE)
def test_public_files_of_the_machine_can_be_read(name: str, kernel: Kernel) -> None:
    if name == "the release of the system" and not Path("/etc/os-release").exists():
        pytest.skip("this system has no os-release")
    if name.startswith("names of") and not Path("/etc/services").exists():
        pytest.skip("this system has no list of services")
    assert do(kernel, READABLE[name]) == [None, True]


@pytest.mark.parametrize("path", CLOSED)
def test_neighbouring_files_cannot_be_read(path: str, kernel: Kernel) -> None:
    if not os.path.exists(path):
        pytest.skip("this machine does not have it")
    code = "os.listdir(path) if os.path.isdir(path) else open(path, 'rb').close()"
    assert do(kernel, code, path=path)[0] == "PermissionError"


def test_public_files_cannot_be_written(kernel: Kernel) -> None:
    for path in ("/etc/os-release", "/proc/self/status", "/proc/sys/vm/overcommit_memory", "/proc/self/limits"):
        if os.path.exists(path):
            assert do(kernel, "open(path, 'r+b').close()", path=path)[0] == "PermissionError"


def test_a_plugin_has_a_home_and_a_user_name(kernel: Kernel) -> None:
    assert do(kernel, """
import getpass
from pathlib import Path
result = [getpass.getuser(), Path.home() == api.data_dir, Path('~/x').expanduser() == api.data_dir / 'x',
          os.path.expanduser('~') == str(api.data_dir), os.environ['LOGNAME'], os.environ['USER']]
""") == [None, ["p", True, True, True, "p", "p"]]  # fmt: skip


def test_a_granted_home_variable_takes_precedence(kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/home")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    do = kernels.doing("sandbox", {"env": ["HOME", "OMP_NUM_THREADS"]})
    assert do("result = [os.environ['HOME'], os.environ['OMP_NUM_THREADS']]") == [None, ["/srv/home", "3"]]


def test_pools_of_threads_are_smaller_than_the_limit_on_a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(256)))
    assert {*pool_sizes({}).values()} == {"8"}
    assert {*pool_sizes({"threads": 32}).values()} == {"4"}
    assert {*pool_sizes({"threads": 3}).values()} == {"1"}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert pool_sizes({})["POLARS_MAX_THREADS"] == "2"


def test_a_granted_tmpdir_variable_does_not_replace_the_plugins_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LaunchSpec(Load("p", "", 1, "sandbox", "/", "p.py", {}, data_dir="/data/p"))
    assert environment_of(spec, "/tmp/own", {})["TMPDIR"] == "/tmp/own"
    assert "TMPDIR" not in environment_of(spec, "", {})
