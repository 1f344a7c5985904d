"""Using up the machine: each is bounded, and a little over what the sandbox allows where nothing else is set."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

from microkernel.errors import KernelError
from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt, Proof
from tests.security.redteam.proofs import has_children, kernel_grew, many_descriptors, more_than, own_file

if TYPE_CHECKING:
    from tests.security.redteam.arena import Arena

GROUP = "resources"
_MiB = 1024
"""kB, as /proc counts."""
_HOG = 640
"""MiB: over the 512 that a sandboxed plugin has."""
_WATCHED = {"limits": {"disk": "16MiB", "heartbeat": 0}}


def _system_v(kind: str) -> Proof:
    """The system lists it, for all to use. It is removed."""

    def is_there(arena: Arena, answer: Answer) -> bool:
        lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        if answer.told is None or all(line.split()[1] != str(answer.told) for line in lines):
            return False
        libc = ctypes.CDLL(None)
        remove = {"shm": libc.shmctl, "msg": libc.msgctl}.get(kind)
        return (remove(answer.told, 0, None) if remove else libc.semctl(answer.told, 0, 0)) == 0

    return is_there


def _still_uses_too_much_disk(arena, answer: Answer) -> bool:
    """It was not ended for it while its call ran."""
    return answer.fault in ("CallTimeout", "nothing") and not proofs.process_died(arena, answer)


def _burnt(arena, answer: Answer) -> bool:
    ticks = int(proofs.statistic(answer.pid, 11) or 0) + int(proofs.statistic(answer.pid, 12) or 0)
    return ticks > 150


def _is_real_time(arena, answer: Answer) -> bool:
    return proofs.statistic(answer.pid, 38) == "1"


def _is_nicer(arena, answer: Answer) -> bool:
    return int(proofs.statistic(answer.pid, 16) or 0) < 0


_BURN = """
until = time.monotonic() + 8
def burn():
    while time.monotonic() < until and time.process_time() < 2: sum(range(10000))
if f.level == "wasm":  # no threads, and a clock of its own
    until = time.monotonic() + 4
    while time.monotonic() < until: sum(range(10000))
    return
threads = [threading.Thread(target=burn) for _ in range(2)]
for each in threads: each.start()
for each in threads: each.join()
"""

ATTEMPTS = [
    Attempt("take more memory than a sandbox may: bytearray", "占用超过沙箱限额的内存：bytearray", f"""
data = bytearray(b"x") * ({_HOG} << 20)
KEPT.append(data)
""", more_than("VmRSS", 600 * _MiB), "rlimit", wasm="engine", thread=SKIPPED),
    Attempt("take more memory with a manifest that allows it", "在清单里给自己放宽内存限额", f"""
data = bytearray(b"x") * ({_HOG} << 20)
KEPT.append(data)
""", more_than("VmRSS", 600 * _MiB), "rlimit", wasm="engine", thread=SKIPPED,
            manifest={"limits": {"memory": "1000GiB"}}),
    Attempt("start more threads with a manifest that allows them", "在清单里给自己放宽线程限额", """
threading.stack_size(64 << 10)
ending = threading.Event()
for _ in range(100): threading.Thread(target=ending.wait, args=(5,), daemon=True).start()
""", more_than("Threads", 90), "rlimit", manifest={"limits": {"threads": 90_000}}),
    Attempt("take more memory: many small objects", "占用更多内存：大量小对象", """
while len(KEPT) < 700: KEPT.append([bytes(1000) for _ in range(1000)])
""", more_than("VmRSS", 600 * _MiB), "rlimit", wasm="engine", thread=SKIPPED, slow=True),
    Attempt("take more memory: private mapping", "占用更多内存：私有映射", f"""
data = mmap.mmap(-1, {_HOG} << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for offset in range(0, len(data), 4096): data[offset] = 1
KEPT.append(data)
""", more_than("VmRSS", 600 * _MiB), "rlimit", thread=SKIPPED, slow=True),
    Attempt("take more memory: shared mapping", "占用更多内存：共享映射", f"""
data = mmap.mmap(-1, {_HOG} << 20)
for offset in range(0, len(data), 4096): data[offset] = 1
KEPT.append(data)
""", more_than("VmRSS", 600 * _MiB), "seccomp", thread=SKIPPED, slow=True),
    Attempt("take more memory: stacks that grow", "占用更多内存：向下增长的栈", f"""
libc.mmap.restype = ctypes.c_void_p
size = {_HOG} << 20
start = libc.mmap(None, ctypes.c_size_t(size), 3, 0x20122, -1, ctypes.c_long(0))
if start in (None, ctypes.c_void_p(-1).value): checked(-1)
for offset in range(0, size, 4096): ctypes.memset(start + offset, 1, 1)
""", more_than("VmRSS", 600 * _MiB), "seccomp", thread=SKIPPED, slow=True),
    Attempt("take more memory: a mapping made writable later", "占用更多内存：之后才改为可写的映射", f"""
libc.mmap.restype = ctypes.c_void_p
size = {_HOG} << 20
start = libc.mmap(None, ctypes.c_size_t(size), 0, 0x22, -1, ctypes.c_long(0))
if start in (None, ctypes.c_void_p(-1).value): checked(-1)
checked(libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), 3))
for offset in range(0, size, 4096): ctypes.memset(start + offset, 1, 1)
""", more_than("VmRSS", 600 * _MiB), "rlimit", thread=SKIPPED, slow=True),
    Attempt("take more memory: written, then protected", "占用更多内存：写过再改为只读", f"""
libc.mmap.restype = ctypes.c_void_p
for _ in range({_HOG} // 10):
    start = libc.mmap(None, ctypes.c_size_t(10 << 20), 3, 0x22, -1, ctypes.c_long(0))
    if start in (None, ctypes.c_void_p(-1).value): checked(-1)
    ctypes.memset(start, 1, 10 << 20)
    checked(libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(10 << 20), 1))
if f.level == "sandbox": time.sleep(5)
""", more_than("VmRSS", 600 * _MiB), "cgroup", wasm="wasm", thread=SKIPPED, slow=True),
    Attempt("take memory as a file without a name", "以匿名文件占用内存", """
file = os.memfd_create("hidden")
KEPT.append(file)
for _ in range(80): os.write(file, bytes(1 << 20))
""", proofs.holds("/memfd:hidden*"), "seccomp"),
    Attempt("take shared memory of System V", "占用 System V 共享内存", 'return syscall("shmget", 0, 1 << 20, 0o1600)',
            _system_v("shm"), "seccomp"),
    Attempt("take a queue of messages of System V", "占用 System V 消息队列", 'return syscall("msgget", 0, 0o1600)',
            _system_v("msg"), "seccomp"),
    Attempt("take a semaphore of System V", "占用 System V 信号量", 'return syscall("semget", 0, 1, 0o1600)',
            _system_v("sem"), "seccomp"),
    Attempt("lock memory", "锁定内存", """
data = ctypes.create_string_buffer(32 << 10)
KEPT.append(data)
syscall("mlock", ctypes.addressof(data), 32 << 10)
""", more_than("VmLck", 16), "seccomp", varies=True),
    Attempt("open a thousand descriptors", "打开一千个描述符", """
for _ in range(1000): KEPT.append(os.dup(1))
""", many_descriptors(900), "rlimit"),
    Attempt("start a hundred threads", "启动一百个线程", """
threading.stack_size(64 << 10)
ending = threading.Event()
for _ in range(100): threading.Thread(target=ending.wait, args=(5,), daemon=True).start()
""", more_than("Threads", 90), "rlimit"),
    Attempt("start seventy processes", "启动七十个进程", """
for _ in range(70):
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
""", has_children(64), "seccomp", thread=SKIPPED),
    Attempt("write a very long file", "写一个很长的文件", """
api.data_dir.mkdir(parents=True, exist_ok=True)
with open(os.path.join(f.data, "long"), "wb") as file: file.truncate(80 << 20)
""", own_file(lambda found: found.st_size > 64 << 20), "rlimit", wasm="rlimit"),
    Attempt("fill the disk with long files", "用大文件占满磁盘", """
api.data_dir.mkdir(parents=True, exist_ok=True)
for number in range(3):
    with open(os.path.join(f.data, f"part{number}"), "wb") as file: fill(file, 10 << 20)
time.sleep(20 if f.is_watched else 0)
""", _still_uses_too_much_disk, "watch", manifest=_WATCHED, thread=SKIPPED,
            slow=True, seconds=15.0),
    Attempt("fill the disk with an unlinked file", "用已删名字的文件占满磁盘", """
api.data_dir.mkdir(parents=True, exist_ok=True)
path = os.path.join(f.data, "gone")
file = open(path, "wb")
os.unlink(path)
fill(file, 30 << 20)
time.sleep(20 if f.is_watched else 0)
""", _still_uses_too_much_disk, "watch", manifest=_WATCHED, thread=SKIPPED,
            slow=True, seconds=15.0),
    Attempt("fill the disk with very many empty files", "用大量空文件占满磁盘", """
api.data_dir.mkdir(parents=True, exist_ok=True)
for number in range(5000): open(os.path.join(f.data, str(number)), "w").close()
time.sleep(20 if f.is_watched else 0)
""", _still_uses_too_much_disk, "watch", manifest=_WATCHED, thread=SKIPPED,
            slow=True, seconds=15.0),
    Attempt("fill the disk with files that are only mapped", "用只剩映射的文件占满磁盘", """
api.data_dir.mkdir(parents=True, exist_ok=True)
for number in range(3):
    path = os.path.join(f.data, str(number))
    with open(path, "wb+") as file:
        fill(file, 10 << 20)
        KEPT.append(mmap.mmap(file.fileno(), 10 << 20))
    os.unlink(path)
time.sleep(20 if f.is_watched else 0)
""", _still_uses_too_much_disk, "watch", wasm="wasm", manifest=_WATCHED, thread=SKIPPED,
            slow=True, seconds=15.0),
    Attempt("hide files in directories deeper than a path", "把文件藏进比路径上限还深的目录", """
api.data_dir.mkdir(parents=True, exist_ok=True)
os.chdir(f.data)
for _ in range(45):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
with open("deep", "wb") as file: fill(file, 30 << 20)
time.sleep(20 if f.is_watched else 0)
""", _still_uses_too_much_disk, "watch", manifest=_WATCHED, thread=SKIPPED,
            slow=True, seconds=15.0),
    Attempt("use more processor time than its limit", "超过处理器时间限额", _BURN, _burnt, "rlimit", process="rlimit",
            wasm="rlimit", thread=SKIPPED, slow=True, manifest={"limits": {"cpu": 1, "heartbeat": 0}}),
    Attempt("use the processor without end, where no limit is set", "未设限额时一直占用处理器", _BURN, _burnt, "open",
            wasm="open", slow=True, manifest={"limits": {"heartbeat": 0}}, means=(
        ("Its threads can keep a processor busy for as long as it runs. Other programs still get their share from "
        "the system's scheduler, but become slower. Set `limits.cpu` (in seconds; the plugin is killed after that), "
        "and watch `mk ps`."),
        ("只要插件在运行，它的线程就可以一直占用处理器。其他程序仍由系统调度分得时间，但会变慢。"
        "请设置 `limits.cpu`（秒数，超出即强制终止），并留意 `mk ps`。"))),
    Attempt("become a real-time process", "变成实时进程", """
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
""", _is_real_time, "seccomp", root=True, thread=SKIPPED, varies=True),
    Attempt("raise its own priority", "提高自己的优先级",
            "os.setpriority(os.PRIO_PROCESS, 0, -5)", _is_nicer, "capability",
            root=True, thread=SKIPPED),
    Attempt("print without end", "无休止地打印", """
until = time.monotonic() + 3
while time.monotonic() < until: os.write(1, b"x" * 60000)
""", kernel_grew, "output", process="output", thread=SKIPPED, slow=True),
    Attempt("leave temporary files too deep to be removed", "留下深到删不掉的临时文件", """
folder = os.environ["TMPDIR"]
os.chdir(folder)
for _ in range(1500):
    os.mkdir("d")
    os.chdir("d")
return folder
""", lambda arena, answer: _stays(arena, answer), "zygote", process="zygote", wasm="engine",
            thread=SKIPPED),
    Attempt("log without end", "无休止地写日志", """
until = time.monotonic() + 2
while time.monotonic() < until: api.log.warning("x" * 10000)
""", kernel_grew, "output", process="output", thread=SKIPPED, slow=True),
]  # fmt: skip


def _stays(arena, answer: Answer) -> bool:
    """What it wrote is there when it has been unloaded, and the kernel has had its time."""
    if answer.told is None:
        return False
    with contextlib.suppress(KernelError):
        arena.kernel.kill(arena._name)
        arena.kernel.unload(arena._name)
    return Path(answer.told).exists()
