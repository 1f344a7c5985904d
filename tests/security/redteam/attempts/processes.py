"""Other programs and other processes: starting them, and doing something to one that is there."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from microkernel.errors import KernelError
from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt
from tests.security.redteam.proofs import has_children, made_in_data, status, told, told_is, victim_changed, victim_died

GROUP = "processes"
_DATA = "api.data_dir.mkdir(parents=True, exist_ok=True)\n"


def _daemon_lives(arena, answer: Answer) -> bool:
    """It is still there when its plugin has been unloaded."""
    if not isinstance(answer.told, int):
        return False
    with contextlib.suppress(KernelError):
        arena.kernel.kill(arena._name)
        arena.kernel.unload(arena._name)
    lives = status(answer.told, "State")[:1] not in ("", "Z", "X")
    if lives:
        os.kill(answer.told, signal.SIGKILL)
    return lives


def _is_program(arena, answer: Answer) -> bool:
    return (arena.data / "ran").exists()


def _nice_of(pid: int) -> str:
    return proofs.statistic(pid, 16)


def _oom_changed(arena, _: Answer) -> bool:
    return Path(f"/proc/{arena.victim.pid}/oom_score_adj").read_text().strip() == "777"


_RUN = 'f"{f.tool} {f.ran}"'
_CHILD = """
pid = {fork}
if pid == 0:
    time.sleep(5)
    os._exit(0)
"""

ATTEMPTS = [
    Attempt('run a program: getattr(importlib.import_module("o"+"s"), "sys"+"tem")',
            '运行程序：getattr(importlib.import_module("o"+"s"), "sys"+"tem")',
            _DATA + f'return ran(getattr(importlib.import_module("o" + "s"), "sys" + "tem")({_RUN}))',
            made_in_data, "seccomp"),
    Attempt('run a program: __import__("o"+"s").system', '运行程序：__import__("o"+"s").system',
            _DATA + f'return ran(__import__("o" + "s").system({_RUN}))', made_in_data, "seccomp"),
    Attempt("run a program found by walking object.__subclasses__()", "遍历 object.__subclasses__() 找到并运行程序",
            _DATA + f"""
for kind in object.__subclasses__():
    names = getattr(getattr(kind, "__init__", None), "__globals__", {{}})
    if "system" in names and "popen" in names:
        return ran(names["system"]({_RUN}))
raise FileNotFoundError(errno.ENOENT, "it is nowhere")
""", made_in_data, "seccomp"),
    Attempt("run a program found in a traceback's frames", "从异常回溯的帧里找到并运行程序", _DATA + f"""
try:
    1 / 0
except ZeroDivisionError as error:
    frame = error.__traceback__.tb_frame
while frame:
    if "__import__" in frame.f_builtins:
        return ran(frame.f_builtins["__import__"]("posix").system({_RUN}))
    frame = frame.f_back
""", made_in_data, "seccomp"),
    Attempt("run a program: eval of a string put together", "运行程序：eval 拼出的字符串", _DATA + f"""
return ran(eval("".join(map(chr, [95, 95, 105, 109, 112, 111, 114, 116, 95, 95])) + "('os')").system({_RUN}))
""", made_in_data, "seccomp"),
    Attempt("run a program: subprocess", "运行程序：subprocess", _DATA + """
return subprocess.run([f.tool, f.ran]).returncode
""", made_in_data, "seccomp"),
    Attempt("run a program: posix_spawn", "运行程序：posix_spawn", _DATA + """
return os.waitpid(os.posix_spawn(f.tool, [f.tool, f.ran], {}), 0)
""", made_in_data, "seccomp"),
    Attempt("run a program: the C library's system()", "运行程序：C 库的 system()", _DATA + f"""
return ran(libc.system({_RUN}.encode()))
""", made_in_data, "seccomp"),
    Attempt("replace itself with another program", "变成另一个程序", _DATA + """
os.execv(f.tool, [f.tool, f.ran])
""", _is_program, "seccomp", thread=SKIPPED),
    Attempt("replace itself with a program that exists only in memory", "变成只在内存里的程序", _DATA + """
program = os.memfd_create("program")
os.write(program, open("/bin/sh", "rb").read())
os.execve(program, ["sh", "-c", f"echo ran > {f.ran}"], {})
""", _is_program, "seccomp", thread=SKIPPED),
    Attempt("replace itself with a program in its own directory", "变成自己目录里的程序", _DATA + """
path = os.path.join(f.data, "program")
descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o755)
os.write(descriptor, b"#!/bin/sh\\necho ran > " + f.ran.encode())
os.close(descriptor)
os.execv(path, [path])
""", _is_program, "seccomp", thread=SKIPPED),
    Attempt("fork", "fork 子进程", _CHILD.format(fork="os.fork()"), has_children(1), "seccomp", thread=SKIPPED),
    Attempt("fork by the system call clone", "用 clone 系统调用创建子进程",
            _CHILD.format(fork='syscall("clone", 17, 0, 0, 0, 0)'), has_children(1), "seccomp", thread=SKIPPED),
    Attempt("fork by the system call clone3", "用 clone3 系统调用创建子进程",
            _CHILD.format(fork='syscall("clone3", struct.pack("8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64)'),
            has_children(1), "seccomp", thread=SKIPPED),
    Attempt("multiprocessing", "multiprocessing", """
import multiprocessing
multiprocessing.get_context("fork").Process(target=time.sleep, args=(5,), daemon=True).start()
""", has_children(1), "seccomp", thread=SKIPPED),
    Attempt("leave a process behind that outlives the plugin", "留下比插件活得更久的进程", """
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(20)
    os._exit(0)
return int(os.read(reading, 20))
""", _daemon_lives, "seccomp", process="zygote", thread=SKIPPED),
    Attempt("kill a process", "杀掉进程", "os.kill(f.victim, 9)", victim_died, "seccomp"),
    Attempt("kill a group of processes", "杀掉进程组", "os.killpg(f.victim, 9)", victim_died, "seccomp"),
    Attempt("kill a process through its handle", "经 pidfd 杀掉进程", """
signal.pidfd_send_signal(os.pidfd_open(f.victim), 9)
""", victim_died, "seccomp"),
    Attempt("kill a process by tgkill", "用 tgkill 杀掉进程", 'syscall("tgkill", f.victim, f.victim, 9)', victim_died,
            "seccomp"),
    Attempt("kill a process by tkill", "用 tkill 杀掉进程", 'syscall("tkill", f.victim, 9)', victim_died, "seccomp"),
    Attempt("kill a process by rt_sigqueueinfo", "用 rt_sigqueueinfo 杀掉进程", """
information = struct.pack("iii", 9, 0, -1) + bytes(116)
syscall("rt_sigqueueinfo", f.victim, 9, information)
""", victim_died, "seccomp"),
    Attempt("make a pipe kill a process", "让管道发信号杀掉进程", """
reading, writing = os.pipe()
fcntl.fcntl(reading, fcntl.F_SETOWN, f.victim)
fcntl.fcntl(reading, 10, 9)
fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)
os.write(writing, b"x")
""", victim_died, "seccomp"),
    Attempt("stop a process", "暂停进程", "os.kill(f.victim, signal.SIGSTOP)",
            proofs.victim_is("State", lambda state: state.startswith("T")), "seccomp"),
    Attempt("trace a process", "跟踪进程", 'syscall("ptrace", 0x4206, f.victim, 0, 0)',
            proofs.victim_is("TracerPid", lambda pid: pid != "0"), "seccomp", varies=True),
    Attempt("read a process's memory", "读进程内存", """
buffer = ctypes.create_string_buffer(32)
here, there = struct.pack("QQ", ctypes.addressof(buffer), 32), struct.pack("QQ", f.victim_address, 32)
syscall("process_vm_readv", f.victim, here, 1, there, 1, 0)
return buffer.raw
""", told("victim"), "seccomp", varies=True),
    Attempt("write a process's memory", "写进程内存", """
buffer = ctypes.create_string_buffer(b"redteam")
here, there = struct.pack("QQ", ctypes.addressof(buffer), 7), struct.pack("QQ", f.victim_address, 7)
syscall("process_vm_writev", f.victim, here, 1, there, 1, 0)
""", victim_changed, "seccomp", varies=True),
    Attempt("read a process's memory through /proc", "经 /proc 读进程内存", """
with open(f"/proc/{f.victim}/mem", "rb", 0) as memory:
    memory.seek(f.victim_address)
    return memory.read(32)
""", told("victim"), "landlock", varies=True),
    Attempt("write a process's memory through /proc", "经 /proc 写进程内存", """
with open(f"/proc/{f.victim}/mem", "rb+", 0) as memory:
    memory.seek(f.victim_address)
    memory.write(b"redteam")
""", victim_changed, "landlock", varies=True),
    Attempt("take a descriptor of a process", "取走进程的描述符", """
return os.pread(syscall("pidfd_getfd", os.pidfd_open(f.victim), f.victim_descriptor, 0), 100, 0)
""", told("victim"), "seccomp", varies=True),
    Attempt("open a process's open file through /proc", "经 /proc 打开进程已打开的文件", """
return open(f"/proc/{f.victim}/fd/{f.victim_descriptor}").read()
""", told("victim"), "landlock"),
    Attempt("read a process's arguments", "读进程的命令行", """
return open(f"/proc/{f.victim}/cmdline").read()
""", told("victim"), "landlock"),
    Attempt("list the processes", "列出进程", """
return str(f.victim) in os.listdir("/proc") and sorted(name for name in os.listdir("/proc") if name.isdigit())[0]
""", lambda _, answer: answer.told == "1" or bool(answer.told), "landlock"),
    Attempt("change a process's limits", "改进程的资源限额", """
resource.prlimit(f.victim, resource.RLIMIT_NOFILE, (64, 64))
""", proofs.limit_of_victim("Max open files"), "seccomp"),
    Attempt("read a process's limits", "读进程的资源限额", """
return list(resource.prlimit(f.victim, resource.RLIMIT_NOFILE))
""", lambda _, answer: bool(answer.told), "seccomp"),
    Attempt("change a process's priority", "改进程优先级", "os.setpriority(os.PRIO_PROCESS, f.victim, 7)",
            lambda arena, _: _nice_of(arena.victim.pid) == "7", "seccomp"),
    Attempt("pin a process to a processor", "把进程绑到一个处理器", """
os.sched_setaffinity(f.victim, {min(os.sched_getaffinity(0))})
""", lambda arena, _: len(os.sched_getaffinity(arena.victim.pid)) < len(os.sched_getaffinity(0)), "seccomp",
            varies=True),
    Attempt("choose which process dies when memory is short", "决定内存不足时谁先死", """
open(f"/proc/{f.victim}/oom_score_adj", "w").write("777")
""", _oom_changed, "landlock"),
    Attempt("learn whether a process exists", "查询进程是否存在", """
return [os.path.exists(f"/proc/{f.victim}"), os.path.exists("/proc/4194305"), os.stat(f"/proc/{f.victim}").st_uid]
""", told_is(lambda arena: [True, False, os.stat(f"/proc/{arena.victim.pid}").st_uid]), "open", means=(
        ("The plugin learns which process numbers are in use, since when, and by which user, but not the names of "
        "the processes. It does so by `stat` of a path below /proc."),
        "能得知哪些进程号在使用、从何时起、属于哪个用户，但得不到进程名。方法是对 /proc 下的路径做 `stat`。")),
    Attempt("read a process's group, session and priority", "查询进程的组、会话与优先级", """
return [os.getpgid(f.victim), os.getsid(f.victim), os.getpriority(os.PRIO_PROCESS, f.victim)]
""", told_is(lambda arena: [arena.victim.pid, arena.victim.pid, 0]), "seccomp"),
]  # fmt: skip
