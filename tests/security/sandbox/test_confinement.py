"""Each forbidden operation is attempted for real, and shown to succeed at `process`: an attempt that was never seen to
succeed proves nothing."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied
from microkernel.hosts.confined.host import pool_sizes
from tests.security.attacks.support import eventually, state_is
from tests.security.sandbox.conftest import Doing, KernelFactory


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Doing]]:
    with ExitStack() as stack:
        kernels = KernelFactory(tmp_path_factory.mktemp("walls"), stack)
        yield {level: kernels.doing(level, {}) for level in ("process", "sandbox")}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Things to reach: a file, a folder, a listening socket, another process of this user's."""
    secret = tmp_path / "secret"
    secret.write_text("the canary")
    loose = tmp_path / "program"
    loose.write_text("#!/bin/sh\necho ran\n")
    loose.chmod(0o755)
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.create_server(("127.0.0.1", 0)) as server, datagrams:
        datagrams.bind(str(tmp_path / "datagrams"))
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], env={"SECRET": "canary"})
        try:
            # Popen returns a moment before the new program has its variables.
            eventually(lambda: b"canary" in Path(f"/proc/{other.pid}/environ").read_bytes())
            yield {
                "secret": str(secret), "folder": str(tmp_path), "program": str(loose), "port": server.getsockname()[1],
                "datagrams": str(tmp_path / "datagrams"), "other": other.pid, "kernel": os.getpid(),
            }  # fmt: skip
        finally:
            other.kill()
            other.wait()


_MESSAGE = """
class IO(ctypes.Structure): _fields_ = [('base', ctypes.c_char_p), ('length', ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_uint32), ('io', ctypes.POINTER(IO)),
                ('count', ctypes.c_size_t), ('control', ctypes.c_char_p), ('controllen', ctypes.c_size_t),
                ('flags', ctypes.c_int), ('sent', ctypes.c_uint32)]
a, b = socket.socketpair()
control = struct.pack('QiiiI', 20, 1, 1, a.fileno(), 0)
message = Message(None, 0, ctypes.pointer(IO(b'x', 1)), 1, control, 24, 0, 0)
"""
ATTEMPTS = {
    "read a file": "result = open(secret).read() == 'the canary'",
    "read through a link": "os.symlink(secret, 'link'); result = open('link').read() == 'the canary'",
    "read through a path of descriptors":
        "h = os.open(folder, os.O_RDONLY); os.open('secret', 0, dir_fd=h); result = True",
    "list a folder": "result = 'secret' in os.listdir(folder)",
    "write a file": "open(secret, 'a').close(); result = True",
    "create a file": "open(folder + '/new', 'w').close(); result = True",
    "empty a file": "os.truncate(secret, 0); result = os.stat(secret).st_size == 0",
    "empty a file by opening it": "os.open(secret, os.O_RDONLY | os.O_TRUNC); result = os.stat(secret).st_size == 0",
    "remove a file": "os.unlink(secret); result = True",
    "rename a file": "os.rename(secret, secret + '2'); result = True",
    "link a file into its own folder": "os.link(secret, 'hard'); result = open('hard').read() == 'the canary'",
    "make a folder": "os.mkdir(folder + '/made'); result = True",
    "change a mode": "os.chmod(secret, 0o777); result = stat.S_IMODE(os.stat(secret).st_mode) == 0o777",
    "change the mode of what it may read":
        "h = os.open(api._instance.load.root + '/p.py', 0); os.fchmod(h, 0o644); result = True",
    "change a time": "os.utime(secret, (1, 1)); result = os.stat(secret).st_mtime == 1",
    "set an attribute": "syscall(188, secret.encode(), b'user.x', b'v', 1, 0); result = True",
    "write beside its own source":
        "import inspect; open(api._instance.load.root + '/x.py', 'w').close(); result = True",
    "read the kernel's environment": "result = 'PATH' in open(f'/proc/{kernel}/environ').read()",
    "read another's environment": "result = 'canary' in open(f'/proc/{other}/environ').read()",
    "read another's memory": "open(f'/proc/{other}/mem', 'rb').close(); result = True",
    "read its own memory": "open('/proc/self/mem', 'rb').close(); result = True",
    "watch a file": "libc.inotify_init1(0); h = syscall(294, 0); syscall(254, h, secret.encode(), 2); result = True",
    "connect": "s = socket.create_connection(('127.0.0.1', port)); result = True",
    "connect, a raw call": "h = syscall(41, 2, 1, 0); result = True",
    "listen": "s = socket.create_server(('127.0.0.1', 0)); result = True",
    "a socket of its family":
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', datagrams); result = True",
    "a pair's way out":
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', datagrams); result = True",
    "netlink": "s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); result = True",
    "fork": "p = os.fork() or os._exit(0); os.waitpid(p, 0); result = True",
    "fork, a raw call": "p = syscall(57) or os._exit(0); os.waitpid(p, 0); result = True",
    "clone, a raw call": "p = syscall(56, 17, 0, 0, 0, 0) or os._exit(0); os.waitpid(p, 0); result = True",
    "run a program":
        "result = subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).stdout == b'1\\n'",
    "run a script": "result = subprocess.run([program], capture_output=True).stdout == b'ran\\n'",
    "spawn": "p = os.posix_spawn('/bin/true', ['true'], {}); os.waitpid(p, 0); result = True",
    "signal another": "os.kill(other, 0); result = True",
    "signal the kernel": "os.kill(kernel, 0); result = True",
    "signal its group": "signal.signal(12, signal.SIG_IGN); os.killpg(0, 12); result = True",
    "signal by a pidfd": "h = os.pidfd_open(other); signal.pidfd_send_signal(h, 0); result = True",
    "signal by owning a descriptor":
        "import fcntl; a, b = os.pipe(); fcntl.fcntl(a, fcntl.F_SETOWN, other); result = True",
    "slow another down": "os.setpriority(os.PRIO_PROCESS, other, 19); result = True",
    "move another": "os.sched_setaffinity(other, os.sched_getaffinity(0)); result = True",
    "limit another": "import resource; resource.prlimit(other, resource.RLIMIT_CORE, (0, 0)); result = True",
    "memory that is not counted": "m = mmap.mmap(-1, 1 << 20); result = True",
    "memory as a file": "h = os.memfd_create('x'); result = True",
    "memory of System V": "h = syscall(29, 0, 4096, 0o1600); syscall(31, h, 0, 0); result = True",
    "shared memory":
        "from multiprocessing import shared_memory as m; s = m.SharedMemory(None, True, 64); s.unlink(); result = True",
    "drop its filter": "result = syscall(157, 38, 1, 0, 0, 0) == 0",
    "send a descriptor": _MESSAGE + "result = syscall(46, a.fileno(), ctypes.byref(message), 0) == 1",
    "send many messages at once": _MESSAGE + "result = syscall(307, a.fileno(), ctypes.byref(message), 1, 0) == 1",
    "have whoever closes it last wait":
        "a, b = socket.socketpair(); a.setsockopt(1, 13, struct.pack('ii', 1, 10)); result = True",
    "have whoever closes it last wait, before it is connected":
        "a = socket.socket(); a.setsockopt(1, 13, struct.pack('ii', 1, 10)); result = True",
    "a byte out of band": "a, b = socket.socketpair(); a.send(b'x', socket.MSG_OOB); result = True",
    "a byte out of band, received": """
a, b = socket.socketpair()
if api.isolation == "process": a.send(b'x', socket.MSG_OOB)
result = b.recv(1, socket.MSG_OOB) == b'x'
""",
    "a handle of the channel's other end": "a, b = socket.socketpair(); result = a.getsockopt(1, 77) >= 0",
    "merge its memory with others'":
        "m = mmap.mmap(-1, 1 << 16, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m.madvise(12); result = True",
    "merge all its memory with others'":
        "result = syscall(157, 67, 1, 0, 0, 0) == 0 and syscall(157, 67, 0, 0, 0, 0) == 0",
    "leave a device where a file was":
        "open('w', 'w').close(); syscall(316, -100, b'w', -100, b'w2', 4); result = stat.S_ISCHR(os.stat('w').st_mode)",
    "descriptors for one thread alone": "syscall(436, 900, 901, 2); result = True",
    "descriptors for one thread alone, unshared": "result = syscall(272, 0x400) == 0",
    "blocks that no file's size shows":
        "f = open('k', 'w'); syscall(285, f.fileno(), 1, 0, 1 << 20); result = os.stat('k').st_blocks > 1000",
    "a lock of no process":
        "import fcntl; f = open('o', 'w'); fcntl.fcntl(f, 37, struct.pack('hhqqi', 1, 0, 0, 1, 0)); result = True",
    "a larger pipe": "import fcntl; a, b = os.pipe(); fcntl.fcntl(a, 1031, 1 << 20); result = True",
    "a queue of messages":
        "syscall(240, b'mk-wall', os.O_RDWR | os.O_CREAT, 0o600, 0); syscall(241, b'mk-wall'); result = True",
    "a key": "result = syscall(248, b'user', b'mk-wall', b'x', 1, -2) > 0",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_is_refused_and_succeeds_without_confinement(
    name: str, both: dict[str, Doing], target: dict[str, Any]
) -> None:
    code = ATTEMPTS[name]
    if "syscall(" in code and os.uname().machine != "x86_64":
        pytest.skip("numbers of x86_64")
    for leaving in ("link", "hard"):
        both["process"]("[os.path.lexists(n) and os.unlink(n) for n in names]", names=[leaving])
        both["sandbox"]("[os.path.lexists(n) and os.unlink(n) for n in names]", names=[leaving])
    error, _ = both["sandbox"](code, **target)
    assert error in ("PermissionError", "OSError"), (error, _)
    assert both["process"](code, **target) == [None, True]


@pytest.mark.parametrize("privileged", ["mount", "ptrace"])
def test_privileged_operations_are_refused(privileged: str, both: dict[str, Doing], target: dict[str, Any]) -> None:
    number, arguments = {"mount": (165, "b'x', b'/', b'tmpfs', 0, 0"), "ptrace": (101, "16, other, 0, 0")}[privileged]
    if os.uname().machine != "x86_64":
        pytest.skip("numbers of x86_64")
    assert both["sandbox"](f"result = syscall({number}, {arguments})", **target)[0] == "PermissionError"


def test_ptrace_succeeds_without_confinement(both: dict[str, Doing], target: dict[str, Any]) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("numbers of x86_64")
    attach = "result = syscall(101, 16, other, 0, 0) == 0; os.waitpid(other, 0x40000000); syscall(101, 17, other, 0, 0)"
    assert both["process"](attach, **target) == [None, True]


def test_the_interpreter_can_be_read_and_not_written(both: dict[str, Doing]) -> None:
    assert both["sandbox"]("open(os.__file__).close(); open(os.__file__, 'a')")[0] == "PermissionError"
    assert both["sandbox"]("os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)")[0] == "PermissionError"


def test_only_the_expected_variables_are_set(both: dict[str, Doing], monkeypatch: pytest.MonkeyPatch) -> None:
    names = both["sandbox"]("result = sorted(os.environ)")[1]
    own = {"HOME", "USER", "LOGNAME", *pool_sizes({})}
    assert set(names) - own <= {"PATH", "LANG", "TZ", "TMPDIR"}
    assert set(both["process"]("result = sorted(os.environ)")[1]) > set(names) - own


def test_its_working_folder_is_its_data_folder(both: dict[str, Doing]) -> None:
    assert both["sandbox"]("result = os.getcwd() == str(api.data_dir)") == [None, True]


def test_the_kernels_own_paths_are_not_in_its_path(kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = kernels.folder / "extra"
    extra.mkdir()
    (extra / "only_here.py").write_text("")
    monkeypatch.syspath_prepend(str(extra))
    assert kernels.doing("process")("import only_here") == [None, None]
    assert kernels.doing("sandbox", {})("import only_here")[0] == "ModuleNotFoundError"


def test_descriptors_cannot_be_sent_to_the_kernel(both: dict[str, Doing]) -> None:
    """The system drops them; the kernel receives none."""
    before = len(os.listdir("/proc/self/fd"))
    send = """
import array
for number in range(3, 12):
    try:
        end = socket.socket(fileno=os.dup(number))
        for _ in range(8):
            end.sendmsg([b''], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))], socket.MSG_DONTWAIT)
    except OSError:
        pass
"""
    both["process"]("pass")
    with suppress(Exception):  # it may cost it its channel
        both["sandbox"](send)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 2, "no descriptor more")


# Exhaustion


def test_memory_is_limited(kernels: KernelFactory) -> None:
    do = kernels.doing("sandbox", {}, memory=128 << 20)
    assert do("b = bytearray(256 << 20)")[0] == "MemoryError"
    assert kernels.doing("process", {})("b = bytearray(256 << 20); result = len(b)") == [None, 256 << 20]


def test_memory_is_limited_by_default(kernels: KernelFactory) -> None:
    assert kernels.doing("sandbox", {})("b = bytearray(600 << 20)")[0] == "MemoryError"


_TIMERS = """
timer, made = ctypes.c_void_p(), 0
while made < 400 and libc.timer_create(1, None, ctypes.byref(timer)) == 0: made += 1
result = made
"""


def test_timers_are_limited(both: dict[str, Doing]) -> None:
    """The system counts them by user, so one process can take them from the user's others."""
    error, made = both["sandbox"](_TIMERS)
    assert error is None
    assert made <= 256
    assert both["process"](_TIMERS) == [None, 400]


def test_the_stack_of_the_main_thread_is_limited(both: dict[str, Doing]) -> None:
    limits = "import resource; result = list(resource.getrlimit(resource.RLIMIT_STACK))"
    soft, hard = both["sandbox"](limits)[1]
    assert 0 < soft == hard <= 64 << 20
    assert both["process"](limits)[1][1] == resource.getrlimit(resource.RLIMIT_STACK)[1]


def test_memory_that_grows_downwards_is_refused(both: dict[str, Doing]) -> None:
    grow = "libc.mmap.restype = ctypes.c_void_p; a = libc.mmap(None, 1 << 20, 3, 0x122, -1, 0); result = a == 2**64 - 1"
    assert both["sandbox"](grow.replace("a == 2**64 - 1", "a in (2**64 - 1, -1)")) == [None, True]
    assert both["process"](grow.replace("a == 2**64 - 1", "a not in (2**64 - 1, -1)")) == [None, True]


def test_descriptors_are_limited(both: dict[str, Doing]) -> None:
    open_many = "h = []\nwhile len(h) < 1000: h.append(os.dup(0))"
    assert both["sandbox"]("h = []\ntry:\n while len(h) < 1000: h.append(os.dup(0))\nexcept OSError as e: n = len(h)\n"
                           "[os.close(x) for x in h]; result = n < 256") == [None, True]  # fmt: skip
    assert both["process"](open_many + "\n[os.close(x) for x in h]; result = len(h)") == [None, 1000]


def test_a_file_is_limited(both: dict[str, Doing]) -> None:
    big = "f = open('big', 'wb'); f.truncate(65 << 20); f.close(); result = os.stat('big').st_size; os.unlink('big')"
    assert both["sandbox"](big)[0] == "OSError"
    assert both["process"](big) == [None, 65 << 20]


THREADS = """
count, let_go = 0, threading.Event()
threading.stack_size(65536)
try:
    while count < 200:
        threading.Thread(target=let_go.wait, daemon=True).start()
        count += 1
except RuntimeError:
    pass
let_go.set()
result = count
"""


def test_threads_are_limited(both: dict[str, Doing]) -> None:
    error, count = both["sandbox"](THREADS)
    assert error is None
    assert 40 <= count < 64
    assert both["process"](THREADS) == [None, 200]


def test_a_plugin_that_fills_the_disk_is_killed(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {}, disk=20 << 20)
    kernel.call("p.do", "open('a', 'wb').write(bytes(10 << 20))", {}, timeout=30.0)
    assert kernel.info("p").protections["disk"] == "watched"
    kernel.emit("nothing")
    fill = "import time\nopen('b', 'wb').write(bytes(15 << 20))\ntime.sleep(30)"
    with pytest.raises(Exception, match=r"over its limit: [0-9,]+ bytes of files, limits.disk is 20,971,520"):
        kernel.call("p.do", fill, {}, timeout=30.0)


def test_a_file_without_a_name_counts_too(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {}, disk=20 << 20)
    fill = "f = open('b', 'wb'); os.unlink('b'); f.write(bytes(25 << 20)); f.flush(); time.sleep(30)"
    with pytest.raises(Exception, match="over its limit"):
        kernel.call("p.do", fill, {}, timeout=30.0)


def test_the_file_of_stacks_counts_too(kernels: KernelFactory) -> None:
    """It is in memory, and a plugin can write to it."""
    kernel = kernels.kernel("sandbox", {}, disk=20 << 20)
    fill = """
for number in range(3, 100):
    try: name = os.readlink(f'/proc/self/fd/{number}')
    except OSError: continue
    if name.startswith('/memfd:'): os.write(number, bytes(25 << 20))
time.sleep(30)
"""
    with pytest.raises(PluginDied, match=r"over its limit: [0-9,]+ bytes of files"):
        kernel.call("p.do", fill, {}, timeout=30.0)


def test_files_in_granted_folders_do_not_count(
    kernels: KernelFactory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    granted = tmp_path_factory.mktemp("granted")
    (granted / "ours").write_bytes(bytes(25 << 20))
    kernel = kernels.kernel("sandbox", {"fs.write": [str(granted)]}, disk=20 << 20)
    write = "open(folder + '/its', 'w').write('x'); result = True"
    assert kernel.call("p.do", write, {"folder": str(granted)}, timeout=30.0) == [None, True]
    runner = kernel.core.registry.get("p").instance.runner  # type: ignore[union-attr]
    for _ in runner._check_files():  # type: ignore[attr-defined]
        pass
    assert runner._kill_reason == ""  # type: ignore[attr-defined]


RENAME = """
libc.prctl(15, b"\\xff\\r\\x1b[2J", 0, 0, 0)
"""


def test_a_process_name_that_is_not_utf8_hides_no_use(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {}, disk=20 << 20)
    assert kernel.call("p.do", RENAME, {}, timeout=30.0) == [None, None]
    assert kernel.info("p").protections["disk"] == "watched"  # and can be listed
    with pytest.raises(Exception, match="over its limit"):
        kernel.call("p.do", "open('b', 'wb').write(bytes(25 << 20))\ntime.sleep(30)", {}, timeout=30.0)


PROTECT = """
blocks = []
for _ in range(40):
    block = mmap.mmap(-1, 10 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(b"x" * (10 << 20))
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    if libc.mprotect(ctypes.c_void_p(address), 10 << 20, mmap.PROT_READ):
        raise OSError(ctypes.get_errno(), "mprotect")
    blocks.append(block)
time.sleep(30)
"""


def test_memory_that_was_written_and_then_protected_is_limited(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {}, memory=128 << 20, processors=0.5)
    if not kernel._hosts._hosts["sandbox"]._groups.describe():  # type: ignore[attr-defined]
        pytest.skip("no control groups here: it is watched")
    eventually(lambda: kernel.info("p").protections["memory"] == "enforced", "its control group is there")
    assert kernel.info("p").protections["processors"] == "enforced"
    # Usually the control group kills it; the monitor may come first.
    with pytest.raises(PluginDied, match=r"over its limit: ([0-9,]+ bytes of memory, )?limits.memory is 134,217,728"):
        kernel.call("p.do", PROTECT, {}, timeout=30.0)


def test_memory_that_was_written_and_then_protected_counts(kernels: KernelFactory, no_cgroups: None) -> None:
    """The system's limit for a process counts writable pages only."""
    kernel = kernels.kernel("sandbox", {}, memory=128 << 20)
    assert kernel.info("p").protections["memory"] == "watched"
    with pytest.raises(Exception, match=r"over its limit: [0-9,]+ bytes of memory, limits.memory is 134,217,728"):
        kernel.call("p.do", PROTECT, {}, timeout=30.0)


def test_processor_time_is_limited(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {}, cpu=1)
    assert kernel.info("p").protections["cpu"] == "enforced"
    with pytest.raises(Exception, match=r"SIGKILL|SIGXCPU"):
        kernel.call("p.do", "while True: pass", {}, timeout=40.0)


def test_a_plugin_that_floods_the_channel_is_killed(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {}, frames=100)
    with pytest.raises(Exception, match="over its limit of 100 frames a second"):
        kernel.call("p.do", "while True: api.log.info('x')", {}, timeout=30.0)


# Grants


def test_granted_folders_are_open_and_others_are_not(kernels: KernelFactory) -> None:
    for name in ("read", "write", "neither"):
        (kernels.folder / name).mkdir()
        (kernels.folder / name / "file").write_text(name)
    grants = {"fs.read": [str(kernels.folder / "read")], "fs.write": [str(kernels.folder / "write" / "file")]}
    do = kernels.doing("sandbox", grants)
    where = str(kernels.folder)
    assert do("result = open(where + '/read/file').read()", where=where) == [None, "read"]
    assert do("open(where + '/read/file', 'a')", where=where)[0] == "PermissionError"
    assert do("open(where + '/write/file', 'w').write('new')", where=where) == [None, None]
    assert do("open(where + '/write/other', 'w')", where=where)[0] == "PermissionError"
    assert do("open(where + '/neither/file')", where=where)[0] == "PermissionError"
    assert (kernels.folder / "write" / "file").read_text() == "new"


def test_a_missing_granted_path_is_reported(kernels: KernelFactory, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = kernels.folder / "nowhere"
    kernels.kernel("sandbox", {"fs.read": [str(nowhere)]})
    said = [line.getMessage() for line in caplog.records if "MK0418" in line.getMessage()]
    assert said == [f"p  MK0418 {nowhere} was granted but could not be opened: it is not there"]


def test_granted_variables_are_set(kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "yes")
    monkeypatch.setenv("KEPT", "no")
    do = kernels.doing("sandbox", {"env": ["GIVEN", "ABSENT"]})
    assert do("result = [os.environ.get(name) for name in ('GIVEN', 'KEPT', 'ABSENT')]") == [None, ["yes", None, None]]


def test_an_operator_may_open_all_files(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {"fs.read": ["/"]})
    assert kernel.info("p").protections["file system"] == "unavailable"
    assert kernel.call("p.do", "result = bool(os.listdir('/'))", {}, timeout=30.0) == [None, True]


# Reported protections


def test_protections_are_read_back(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {})
    has_groups = bool(kernel._hosts._hosts["sandbox"]._groups.describe())  # type: ignore[attr-defined]
    held = "enforced" if has_groups else "watched"
    eventually(lambda: kernel.info("p").protections["memory"] == held, "its control group is there")
    protections = dict(kernel.info("p").protections)
    for name in ("user", "net", "ipc", "uts"):
        protections.pop(f"{name} namespace")
    assert protections == {
        "hard kill": "enforced", "memory": held, "files": "enforced", "file size": "enforced",
        "cpu": "unavailable", "processors": "unavailable", "network": "enforced", "file system": "enforced",
        "processes": "enforced",
        "system calls": "enforced", "capabilities": "enforced", "threads": "enforced", "disk": "watched",
        "frames": "enforced",
    }  # fmt: skip


def test_a_confined_plugin_can_be_killed(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {})
    pid = kernel.info("p").pid
    kernel.kill("p")
    assert state_is(kernel, "p", "stopped").pid is None
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_no_file_of_the_plugins_outlives_it_but_its_data(kernels: KernelFactory) -> None:
    kernel: Kernel = kernels.kernel("sandbox", {})
    folder = kernel.call("p.do", "open('kept', 'w').close(); result = tempfile.mkdtemp()", {}, timeout=30.0)[1]
    assert kernel.unload("p") == []
    assert not Path(folder).exists()
    assert (kernels.folder / "data-sandbox" / "p" / "kept").exists()


_LOCK_MANY = """
import fcntl
open('locked', 'wb').close()
files = [open('locked', 'rb+')]
for at in range(6000): fcntl.lockf(files[0], fcntl.LOCK_EX, 1, 2 * at)
time.sleep(30)
"""


def test_a_plugin_with_too_many_locks_is_killed(kernels: KernelFactory) -> None:
    kernel = kernels.kernel("sandbox", {})
    with pytest.raises(Exception, match=r"over its bound: more than 4,096 locks on files"):
        kernel.call("p.do", _LOCK_MANY, {}, timeout=30.0)
