"""The interfaces of the system's kernel, where attacks on it begin. Success is a descriptor or a change that shows."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import holds, in_other_namespace, made, told_is

GROUP = "kernel interfaces"
_KEYS = {"x86_64": 250, "aarch64": 219}
_SEARCH, _USER_RING = 10, -4


def _key_is_there(arena, _: Answer) -> bool:
    libc = ctypes.CDLL(None)
    search = libc.syscall(_KEYS[platform.machine()], _SEARCH, _USER_RING, b"user", f"redteam-{arena.token}".encode(), 0)
    return bool(search > 0)


def _is_mounted(arena, _: Answer) -> bool:
    return os.path.ismount(arena.files.folder / "listed")


def _renamed(arena, _: Answer) -> bool:
    return Path("/proc/sys/kernel/hostname").read_text().strip() == "redteam"


def _has_rights(arena, answer: Answer) -> bool:
    return int(proofs.status(answer.pid, "CapEff") or "0", 16) != 0


def _has_changed_root(arena, answer: Answer) -> bool:
    return os.readlink(f"/proc/{answer.pid}/root") != "/"


def _has_personality(arena, answer: Answer) -> bool:
    return int(Path(f"/proc/{answer.pid}/personality").read_text(), 16) & 0x0040000 != 0


def _has_writable_code(arena, answer: Answer) -> bool:
    return proofs.writable_code(answer.pid) > int(arena.before["code"])


def _is_another_user(arena, answer: Answer) -> bool:
    return proofs.status(answer.pid, "Uid").split()[1] == "12345"


def _is_called(arena, answer: Answer) -> bool:
    return Path(f"/proc/{answer.pid}/comm").read_text().strip() == "redteam"


def _cgroup_made(arena, _: Answer) -> bool:
    found = Path("/sys/fs/cgroup") / f"redteam-{arena.token}"
    is_there = found.exists()
    if is_there:
        found.rmdir()
    return is_there


_MACHINE_CODE = """
if platform.machine() != "x86_64": raise OSError(errno.ENOSYS, "only there")
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(None, ctypes.c_size_t(8192), 7, 0x22 | 0x40, -1, ctypes.c_long(0))
if place in (None, ctypes.c_void_p(-1).value): checked(-1)
def run(code, path):
    ctypes.memmove(place + 4096, path + b"\\0", len(path) + 1)
    ctypes.memmove(place, code.replace(b"PATH", struct.pack("<I", place + 4096)), len(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(place)()
"""

ATTEMPTS = [
    Attempt("create a user namespace, to be root there", "建用户命名空间，在其中当 root",
            'syscall("unshare", 0x10000000)', in_other_namespace("user"), "seccomp", thread=SKIPPED, varies=True),
    Attempt("create a mount namespace", "建挂载命名空间",
            'syscall("unshare", 0x20000)', in_other_namespace("mnt"), "seccomp",
            root=True, thread=SKIPPED),
    Attempt("create a network namespace", "建网络命名空间", 'syscall("unshare", 0x40000000)', in_other_namespace("net"),
            "seccomp", root=True, thread=SKIPPED),
    Attempt("enter the namespaces of another process", "进入另一进程的命名空间", """
syscall("unshare", 0x04000000)
syscall("setns", os.open(f"/proc/{f.kernel}/ns/uts", os.O_RDONLY), 0)
return os.readlink("/proc/self/ns/uts") == os.readlink(f"/proc/{f.kernel}/ns/uts")
""", told_is(lambda _: True), "seccomp", root=True, thread=SKIPPED),
    Attempt("mount a file system", "挂载文件系统", """
syscall("mount", b"none", (f.folder + "/listed").encode(), b"tmpfs", 0, b"size=4k")
""", _is_mounted, "seccomp", root=True),
    Attempt("mount by the newer calls", "用新的系统调用挂载", 'KEPT.append(syscall("fsopen", b"tmpfs", 0))',
            holds("anon_inode:*fscontext*"), "seccomp", root=True),
    Attempt("change the root directory", "改根目录", "os.chroot(f.folder)", _has_changed_root, "seccomp", root=True,
            thread=SKIPPED),
    Attempt("rename the machine", "改本机名字",
            'syscall("sethostname", b"redteam", 7)', _renamed, "seccomp", root=True),
    Attempt("create a control group", "建 cgroup", """
os.mkdir(f"/sys/fs/cgroup/redteam-{f.token}")
""", _cgroup_made, "landlock", root=True, varies=True),
    Attempt("create an io_uring", "创建 io_uring", """
KEPT.append(syscall("io_uring_setup", 4, ctypes.create_string_buffer(120)))
""", holds("anon_inode:*io_uring*"), "seccomp", varies=True),
    Attempt("load a bpf program", "装入 bpf 程序", """
KEPT.append(syscall("bpf", 0, struct.pack("IIIII", 2, 4, 8, 4, 0) + bytes(100), 120))
""", holds("anon_inode:bpf-map"), "seccomp", root=True, varies=True),
    Attempt("read processor counters: perf_event_open", "处理器计数器：perf_event_open", """
attributes = struct.pack("IIQQQQQ", 1, 112, 0, 0, 0, 0, 0x61) + bytes(64)
KEPT.append(syscall("perf_event_open", attributes, 0, -1, -1, 0))
""", holds("anon_inode:*perf_event*"), "seccomp", varies=True),
    Attempt("handle page faults: userfaultfd", "自己处理缺页：userfaultfd",
            'KEPT.append(syscall("userfaultfd", 1))', holds("anon_inode:*userfaultfd*"), "seccomp", varies=True),
    Attempt("watch all files: fanotify", "监视所有文件：fanotify", 'KEPT.append(syscall("fanotify_init", 0, 0))',
            holds("anon_inode:*fanotify*"), "seccomp", root=True, varies=True),
    Attempt("create a file without a name: memfd_create", "匿名文件：memfd_create",
            'KEPT.append(syscall("memfd_create", b"nowhere", 0))', holds("/memfd:nowhere*"), "seccomp"),
    Attempt("get a handle of another process: pidfd_open", "进程句柄：pidfd_open",
            'KEPT.append(syscall("pidfd_open", f.kernel, 0))',
            lambda _, answer: any("pidfd" in link for link in proofs.links(answer.pid)), "seccomp", thread=SKIPPED),
    Attempt("get a handle of the kernel's process from the channel", "经通道取得内核进程的句柄", """
channel = socket.socket(fileno=os.dup(4))
KEPT.append(channel)
KEPT.append(struct.unpack("i", channel.getsockopt(socket.SOL_SOCKET, 77, 4))[0])
""", lambda _, answer: any("pidfd" in link for link in proofs.links(answer.pid)), "seccomp", thread=SKIPPED,
            varies=True),
    Attempt("add a key to the system's keyring", "在系统密钥环里放密钥", """
syscall("add_key", b"user", f"redteam-{f.token}".encode(), b"x", 1, -4)
""", _key_is_there, "seccomp", varies=True),
    Attempt("read the system's kernel log", "读系统内核日志", """
data = ctypes.create_string_buffer(1 << 16)
return syscall("syslog", 3, data, len(data)) > 0
""", told_is(lambda _: True), "seccomp", root=True, varies=True),
    Attempt("disable address randomisation: personality", "固定地址布局：personality",
            'syscall("personality", 0x0040000)', _has_personality,
            "seccomp", thread=SKIPPED),
    Attempt("become another user", "变成另一个用户", 'syscall("setuid", 12345)', _is_another_user, "seccomp", root=True,
            thread=SKIPPED),
    Attempt("have root's capabilities", "拥有 root 的特权", "return True", _has_rights, "capability", wasm="capability",
            root=True),
    Attempt("take capabilities", "取得特权", """
header = struct.pack("Ii", 0x20080522, 0)
syscall("capset", header, struct.pack("6I", *[0xFFFFFFFF] * 6))
return True
""", _has_rights, "seccomp", root=True, thread=SKIPPED, varies=True),
    Attempt("create a Landlock ruleset", "自建 Landlock 规则集", """
KEPT.append(syscall("landlock_create_ruleset", struct.pack("QQ", 1, 0), 8, 0))
""", holds("anon_inode:*landlock*"), "seccomp", varies=True),
    Attempt("write a setting of the system", "改系统设置", """
open("/proc/sys/kernel/hostname", "w").write("redteam")
""", _renamed, "landlock", root=True, varies=True),
    Attempt("read the system kernel's symbol addresses", "读系统内核符号表", """
return open("/proc/kallsyms").readline().split()[0] != "0" * 16
""", told_is(lambda _: True), "landlock", root=True, varies=True),
    Attempt("make a 32-bit system call", "32 位系统调用", _MACHINE_CODE + """
# mkdir(path, 0700) of the 32-bit table; the other registers are as the C convention wants them
code = b"\\x53\\xb8\\x27\\x00\\x00\\x00\\xbbPATH\\xb9\\xc0\\x01\\x00\\x00\\xcd\\x80\\x5b\\xc3"
run(code, (f.folder + "/new").encode())
""", made("new"), "seccomp", varies=True),
    Attempt("make an x32 system call", "x32 系统调用", """
if platform.machine() != "x86_64": raise OSError(errno.ENOSYS, "only there")
syscall(0x40000000 | 83, (f.folder + "/new").encode(), 0o700)
""", made("new"), "seccomp", process="system", thread="system", varies=True),
    Attempt("run its own machine code", "运行自己的机器码", """
KEPT.append(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7))
KEPT[0][:4] = b"\\xc3\\xc3\\xc3\\xc3"
""", _has_writable_code, "open", means=(
        ("Native code is allowed on purpose, because C extensions and ctypes need it. No protection relies on code "
        "inside the process; the operating system enforces all of them."),
        "允许运行原生代码是有意的，因为 C 扩展和 ctypes 需要它。没有一项保护依赖进程内部的代码，全部由操作系统强制。")),
    Attempt("change its name in ps", "在 ps 里改名", """
libc.prctl(15, b"redteam", 0, 0, 0)
""", _is_called, "open", thread=SKIPPED, means=(
        "The plugin can appear in `ps` under another name. `mk ps` identifies it by its process number.",
        "能在 `ps` 里显示为别的名字。`mk ps` 按进程号识别。")),
]  # fmt: skip
