"""The kernel's own process, and the zygote's."""

from __future__ import annotations

import os
from pathlib import Path

from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import emitted, told

GROUP = "kernel process"


def _signalled(arena, _: Answer) -> bool:
    return bool(arena.signals)


def _overwritten(arena, _: Answer) -> bool:
    return arena.buffer() != arena.secrets()["kernel"]


def _traced(arena, _: Answer) -> bool:
    return proofs.status(os.getpid(), "TracerPid") not in ("", "0")


def _zygote_stopped(arena, _: Answer) -> bool:
    return proofs.statistic(arena.zygote(), 0) == "T"


def _score_changed(arena, _: Answer) -> bool:
    score = Path("/proc/self/oom_score_adj")
    is_changed = score.read_text().strip() == "77"
    if is_changed:
        score.write_text("0")
    return is_changed


def _cores_forbidden(arena, _: Answer) -> bool:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    if soft != 4321:
        return False
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (hard, hard))
    return True


_READ = """
buffer = ctypes.create_string_buffer(32)
here, there = struct.pack("QQ", ctypes.addressof(buffer), 32), struct.pack("QQ", f.kernel_address, 32)
syscall("process_vm_readv", f.kernel, here, 1, there, 1, 0)
return buffer.raw
"""
_WRITE = """
buffer = ctypes.create_string_buffer(b"redteam")
here, there = struct.pack("QQ", ctypes.addressof(buffer), 7), struct.pack("QQ", f.kernel_address, 7)
syscall("process_vm_writev", f.kernel, here, 1, there, 1, 0)
"""

ATTEMPTS = [
    Attempt("signal the kernel", "给内核进程发信号", "os.kill(f.kernel, signal.SIGUSR1)", _signalled, "seccomp"),
    Attempt("signal the kernel as its parent's parent", "给父进程的父进程发信号", """
os.kill(f.kernel if f.level == "thread" else int(open(f"/proc/{os.getppid()}/stat").read().split()[3]), signal.SIGUSR1)
""", _signalled, "landlock"),
    Attempt("make a descriptor's notification signal the kernel", "让描述符的异步通知给内核发信号", """
one, two = socket.socketpair()
fcntl.fcntl(one, fcntl.F_SETOWN, f.kernel)
fcntl.fcntl(one, 10, signal.SIGUSR1)
fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_ASYNC)
two.send(b"x")
KEPT.extend([one, two])
""", _signalled, "seccomp", wasm="broker"),
    Attempt("stop the zygote", "暂停孵化进程", "os.kill(f.zygote, signal.SIGSTOP)", _zygote_stopped, "seccomp",
            thread=SKIPPED),
    Attempt("trace the kernel", "跟踪内核进程", 'syscall("ptrace", 0x4206, f.kernel, 0, 0)', _traced, "seccomp",
            thread=SKIPPED, varies=True),
    Attempt("read the kernel's memory", "读内核进程的内存", _READ, told("kernel"), "seccomp", varies=True),
    Attempt("write the kernel's memory", "写内核进程的内存", _WRITE, _overwritten, "seccomp", varies=True),
    Attempt("read the kernel's memory through /proc", "经 /proc 读内核进程的内存", """
with open(f"/proc/{f.kernel}/mem", "rb", 0) as memory:
    memory.seek(f.kernel_address)
    return memory.read(32)
""", told("kernel"), "landlock", varies=True),
    Attempt("write the kernel's memory through /proc", "经 /proc 写内核进程的内存", """
with open(f"/proc/{f.kernel}/mem", "rb+", 0) as memory:
    memory.seek(f.kernel_address)
    memory.write(b"redteam")
""", _overwritten, "landlock", varies=True),
    Attempt("read memory at an address of the kernel", "按内核进程里的地址直接读内存", """
reading, writing = os.pipe()
checked(libc.write(writing, ctypes.c_void_p(f.kernel_address), 32))
return os.read(reading, 32)
""", told("kernel"), "memory", process="memory"),
    Attempt("take a descriptor of the kernel", "取走内核进程的描述符", """
return os.pread(syscall("pidfd_getfd", os.pidfd_open(f.kernel), f.kernel_file, 0), 100, 0)
""", told("kernel"), "seccomp", varies=True),
    Attempt("open an open file of the kernel through /proc", "经 /proc 打开内核进程的文件", """
return open(f"/proc/{f.kernel}/fd/{f.kernel_file}").read()
""", told("kernel"), "landlock"),
    Attempt("use a descriptor of the kernel by its number", "按编号使用内核进程的描述符", """
return os.pread(f.kernel_file, 100, 0)
""", told("kernel"), "session", process="session"),
    Attempt("change the kernel's limits", "改内核进程的资源限额", """
hard = resource.prlimit(f.kernel, resource.RLIMIT_MSGQUEUE)[1]
resource.prlimit(f.kernel, resource.RLIMIT_MSGQUEUE, (4321, hard))
""", _cores_forbidden, "seccomp"),
    Attempt("make the kernel die first when memory is short", "让内核进程在内存不足时先死", """
open(f"/proc/{f.kernel}/oom_score_adj", "w").write("77")
""", _score_changed, "landlock"),
    Attempt("find the kernel object by walking all objects", "遍历所有对象找到内核对象", """
for thing in gc.get_objects():
    if type(thing).__name__ == "Kernel" and hasattr(thing, "emit"):
        thing.emit("kernel.forged", token=f.token)
        return True
""", emitted("kernel.forged"), "memory", process="memory"),
    Attempt("find the kernel's classes by object.__subclasses__()", "经 object.__subclasses__() 找到内核的类", """
for kind in object.__subclasses__():
    if kind.__name__ == "Kernel" and kind.__module__ == "microkernel.app":
        core = sys.modules["microkernel.app"]
        for kernel in list(core._kernels):
            kernel.emit("kernel.forged", token=f.token)
""", emitted("kernel.forged"), "memory", process="memory"),
    Attempt("replace the gate with one that allows everything", "把关口换成放行一切的", """
from microkernel.kernel.admission import gate
KEPT.append(gate.admit)
gate.admit = lambda *_: None
try:
    api._instance._channel.send(__import__("microkernel.wire.messages", fromlist=["x"]).Emit(
        "kernel.forged", __import__("microkernel.wire.codec", fromlist=["x"]).Raw(
            __import__("microkernel.wire.codec", fromlist=["x"]).encode({"token": f.token}))))
    time.sleep(0.2)
finally:
    gate.admit = KEPT[-1]
""", emitted("kernel.forged"), "gate", wasm="wasm", process="gate"),
    Attempt("end the kernel's process with os._exit", "用 os._exit 退出并带走内核", """
os._exit(3)
""", lambda arena, _: arena.kernel.call("other.reveal") == "", "memory", process="memory", thread=SKIPPED),
    Attempt("end the kernel's process by a crash", "崩溃并带走内核", """
ctypes.string_at(0)
""", lambda arena, _: arena.kernel.call("other.reveal") == "", "memory", process="memory", thread=SKIPPED),
    Attempt("never end: ignore all signals, and sleep", "永不结束：忽略信号并睡眠", """
if f.level != "thread":
    for number in range(1, 32):
        with contextlib.suppress(OSError, ValueError): signal.signal(number, signal.SIG_IGN)
time.sleep(20)
""", lambda arena, answer: cannot_be_killed(arena), "zygote", process="zygote", seconds=0.5,
            manifest={"limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
    Attempt("never end: a loop that catches everything", "永不结束：捕获一切的死循环", """
if f.level == "thread":
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            while time.monotonic() < until: pass
        except BaseException: pass
while True:
    try:
        while True: pass
    except BaseException: pass
""", lambda arena, answer: cannot_be_killed(arena), "zygote", process="zygote", thread=SKIPPED, seconds=0.5,
            manifest={"limits": {"drain": 0.1, "stop": 0.2, "kill_grace": 0.2, "heartbeat": 0}}),
]  # fmt: skip


def cannot_be_killed(arena) -> bool:
    """The kernel kills it: it must be gone."""
    if arena.kernel.info(arena._name).state == "zombie":
        return True
    pid = arena.kernel.info(arena._name).pid
    arena.kernel.kill(arena._name)
    if arena.kernel.info(arena._name).state == "zombie":
        return True
    return pid is not None and not proofs.gone(pid)
