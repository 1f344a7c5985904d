"""System calls that a plugin needs, with options that it does not. Success is what the system shows of them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import its, own_file, told_is

GROUP = "options of system calls"
_OWN = """
folder = f.data
os.makedirs(folder, exist_ok=True)
"""


def _merges(_, answer: Answer) -> bool:
    """The flag of a mapping that the system may merge with others'."""
    try:
        lines = Path(f"/proc/{answer.pid}/smaps").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith("VmFlags:") and " mg" in line for line in lines)


def _has_tables(_, answer: Answer) -> bool:
    """A thread has more descriptors than the process."""
    tables = set()
    for task in Path(f"/proc/{answer.pid}/task").iterdir():
        with suppress(OSError):  # at `thread` this is the kernel's process, whose threads come and go
            tables.add(frozenset(os.listdir(task / "fd")))
    return len(tables) > 1


def _locks(_, answer: Answer) -> bool:
    """More than any database takes, and the process was not ended for it."""
    locks = Path("/proc/locks").read_text(errors="replace").splitlines()
    return sum(line.split()[4:5] == [str(answer.pid)] for line in locks) > 5000


ATTEMPTS = [
    Attempt("make the last process that closes its connection wait", "让最后关闭连接的一方等待", """
ours, theirs = socket.socketpair()
ours.setsockopt(socket.SOL_SOCKET, 13, struct.pack("ii", 1, 10))
return list(struct.unpack("ii", ours.getsockopt(socket.SOL_SOCKET, 13, 8)))
""", told_is(lambda _: [1, 10]), "seccomp"),
    Attempt("send a byte out of band", "发送带外字节", """
ours, theirs = socket.socketpair()
ours.send(b"x", socket.MSG_OOB)
return theirs.recv(1, socket.MSG_OOB).decode()
""", told_is(lambda _: "x"), "seccomp", varies=True),
    Attempt("make the system merge its memory with others'", "让系统把它的内存与别人的合并", """
KEPT.append(mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
KEPT[-1].madvise(12)
""", _merges, "seccomp", varies=True),
    Attempt("make the system merge all its memory with others'", "让系统把它的全部内存与别人的合并",
            'syscall("prctl", 67, 1, 0, 0, 0)\nreturn syscall("prctl", 68, 0, 0, 0, 0)', told_is(lambda _: 1),
            "seccomp", thread=SKIPPED, varies=True),
    Attempt("leave a device node in place of a renamed file", "改名时留下一个设备文件", _OWN + """
path = os.path.join(folder, "whiteout").encode()
open(path, "w").close()
syscall("renameat2", -100, path, -100, path + b"2", 4)
""", own_file(lambda found: stat.S_ISCHR(found.st_mode)), "seccomp", varies=True),
    Attempt("give one thread its own descriptor table", "让一个线程有自己的描述符表", """
ready, ending = threading.Event(), threading.Event()
def alone():
    try:
        syscall(436, 900, 901, 2)
        KEPT.append(os.dup(1))
    except OSError as error: KEPT.append(error)
    ready.set()
    ending.wait(5)
threading.Thread(target=alone, daemon=True).start()
ready.wait()
if isinstance(KEPT[-1], OSError): raise KEPT[-1]
""", _has_tables, "seccomp", varies=True),
    Attempt("allocate disk blocks beyond a file's size", "占用文件大小看不出的磁盘块", _OWN + """
file = open(os.path.join(folder, "hidden"), "wb")
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
checked(libc.fallocate(file.fileno(), 1, 0, 80 << 20))
""", own_file(lambda found: found.st_blocks * 512 > 70 << 20), "seccomp", varies=True),
    Attempt("make four hundred timers", "创建四百个定时器", """
for _ in range(400):
    timer = ctypes.c_void_p()
    if libc.timer_create(1, None, ctypes.byref(timer)): checked(-1)
""", its("SigQ", lambda text: int(text.split("/")[0] or 0) > 350), "rlimit"),
    Attempt("take very many locks on a file", "对文件取大量的锁", _OWN + """
file = open(os.path.join(folder, "locked"), "wb")
KEPT.append(file)
for at in range(6000): fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * at)
if f.level == "sandbox": time.sleep(15)
""", lambda arena, answer: not proofs.process_died(arena, answer) and _locks(arena, answer), "watch", wasm="wasm",
            thread=SKIPPED, manifest={"limits": {"heartbeat": 0}}, seconds=15.0, slow=True),
    Attempt("enlarge a pipe to a megabyte", "让管道容纳一兆字节", """
reading, writing = os.pipe()
KEPT.append((reading, writing))
return fcntl.fcntl(writing, 1031, 1 << 20)
""", told_is(lambda _: 1 << 20), "seccomp"),
]  # fmt: skip
