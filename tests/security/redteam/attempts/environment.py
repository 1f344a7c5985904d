"""What a plugin can learn of its surroundings: variables, arguments, folders, names."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from pathlib import Path

from tests.security.redteam.model import SKIPPED, Attempt
from tests.security.redteam.proofs import told, told_is

GROUP = "environment"

_SCAN = """
import re
reading, writing = os.pipe()
PAGE = 4096
found = set()
def page(address):
    count = libc.write(writing, ctypes.c_void_p(address), PAGE)
    return os.read(reading, PAGE) if count > 0 else b""
def scan(start, pages):
    last = b""
    for number in range(pages):
        data = page(start + number * PAGE)
        found.update(re.findall(rb"mkgrant-([0-9a-f]{32})", last[-64:] + data))
        last = data
libc.sbrk.restype = ctypes.c_void_p
libc.sbrk.argtypes = [ctypes.c_long]
end = libc.sbrk(0) // PAGE * PAGE
pages = 0
while pages < 8192 and page(end - (pages + 1) * PAGE): pages += 1
scan(end - pages * PAGE, pages)
seen = {id(each) >> 20 for module in list(sys.modules.values()) for each in list(vars(module).values())}
seen |= {id(each) >> 20 for each in gc.get_objects()}
for region in sorted(seen): scan(region << 20, 256)
return sorted(found)
"""

ATTEMPTS = [
    Attempt("read a variable of the kernel: os.environ", "读内核的环境变量：os.environ", """
return os.environ.get("MK_SECRET")
""", told("environment"), "session"),
    Attempt("read a variable of the kernel: getenv", "读内核的环境变量：getenv", """
libc.getenv.restype = ctypes.c_char_p
return libc.getenv(b"MK_SECRET")
""", told("environment"), "session"),
    Attempt("read the variables of the kernel's process", "读内核进程的环境变量", """
return [each for each in open(f"/proc/{f.kernel}/environ").read().split("\\0") if "MK_SECRET" in each]
""", told("environment"), "landlock"),
    Attempt("read the variables of another process", "读其他进程的环境变量", """
return open(f"/proc/{f.victim}/environ").read()
""", told("victim"), "landlock"),
    Attempt("read the kernel's arguments", "读内核的命令行", """
return open(f"/proc/{f.kernel}/cmdline").read()
""", told("argument"), "landlock"),
    Attempt("find a variable that was granted to another plugin", "找到授予别的插件的环境变量", """
return os.environ.get(f.mark)
""", told("granted"), "session"),
    Attempt("search its own memory for what the zygote knew of others", "在自己的内存里搜索孵化进程知道的机密",
            _SCAN, told("granted"), "memory", thread="not tried", seconds=30.0),
    Attempt("read the kernel's standard input", "读内核的标准输入", """
return os.read(0, 100)
""", told("stdin"), "session", process="session"),
    Attempt("learn the kernel's working directory", "看到内核的工作目录",
            "return os.getcwd()", told_is(lambda _: os.getcwd()), "session", wasm="guest"),
    Attempt("enter the kernel's working directory through /proc", "经 /proc 走到内核的工作目录", """
os.chdir(f"/proc/{f.kernel}/cwd")
return os.listdir(".")
""", told_is(lambda _: os.listdir(".")), "landlock"),
    Attempt("read the list of this machine's users", "读本机用户列表", """
return sorted(line.split(":")[0] for line in open("/etc/passwd"))
""", told_is(lambda _: sorted(each.pw_name for each in pwd.getpwall())), "landlock", varies=True),
    Attempt("read the list of mounts", "读挂载列表", """
return open("/proc/self/mountinfo").read()[:200]
""", lambda _, answer: bool(answer.told), "landlock"),
    Attempt("read /etc/hosts", "读本机记录的其他主机名", """
return open("/etc/hosts").read()
""", told_is(lambda _: Path("/etc/hosts").read_text()), "landlock", varies=True),
    Attempt("read the interrupt counters, which reveal the timing of keys", "读中断计数器（可推断按键时刻）", """
return open("/proc/stat").read()[:100]
""", lambda _, answer: bool(answer.told), "landlock"),
    Attempt("read which control group another process is in", "读其他进程所在的控制组", """
return open(f"/proc/{f.victim}/cgroup").read()
""", told_is(lambda arena: Path(f"/proc/{arena.victim.pid}/cgroup").read_text()), "landlock", varies=True),
    Attempt("list the control groups of this machine", "列出本机的控制组", """
return sorted(os.listdir("/sys/fs/cgroup"))
""", told_is(lambda _: sorted(os.listdir("/sys/fs/cgroup"))), "landlock", varies=True),
    Attempt("write into its own files in /proc", "写入自己在 /proc 里的文件", """
with open("/proc/self/comm", "r+") as file: file.write("redteam")
""", lambda _, answer: Path(f"/proc/{answer.pid}/comm").read_text().strip() == "redteam", "landlock", thread=SKIPPED),
    Attempt("read which control group it is in", "读自己所在的控制组", """
return open("/proc/self/cgroup").read()
""", lambda _, answer: answer.told == Path(f"/proc/{answer.pid}/cgroup").read_text(), "open", means=(
        ("The plugin learns the path of its control group, which may name the service, container or session that the "
        "kernel runs in, and the limits of that group. Libraries size their thread pools by them."),
        "能得知自己所在控制组的路径（其中可能有内核所在服务、容器或会话的名字）和该组的限额；一些库据此决定线程池大小。")),
    Attempt("read the model of the processor and the memory in use", "读处理器型号与内存用量", """
return open("/proc/cpuinfo").read().count("processor") * ("MemTotal" in open("/proc/meminfo").read())
""", told_is(lambda _: Path("/proc/cpuinfo").read_text().count("processor")), "open", means=(
        ("The plugin learns the model, flags and frequency of the processor, and how much of the machine's memory is "
        "in use. Native libraries choose their code paths by the former."),
        "能得知处理器的型号、特性和频率，以及本机的内存用量；原生库根据处理器特性选择代码路径。")),
    Attempt("read the machine's name", "查询本机名字", """
return socket.gethostname()
""", told_is(lambda _: socket.gethostname()), "open", wasm="guest", means=(
        "The plugin learns the machine's name and the version of its system (`uname`).",
        "能得知本机的名字和系统内核版本（`uname`）。")),
    Attempt("read the size of the machine's memory", "查询本机内存大小", """
return os.sysconf("SC_PHYS_PAGES")
""", told_is(lambda _: os.sysconf("SC_PHYS_PAGES")), "open", wasm="guest", means=(
        "The plugin learns memory, load and uptime of the machine (`sysinfo`). Libraries size their buffers by it.",
        "能得知本机的内存、负载和运行时间（`sysinfo`）；一些库据此决定缓冲区大小。")),
    Attempt("learn where the interpreter is installed", "得知解释器装在哪里", """
return sys.base_prefix
""", told_is(lambda _: sys.base_prefix), "open", wasm="guest", means=(
        ("The plugin learns the paths of the interpreter, of microkernel and of itself, and all modules that are "
        "installed there, because it runs from there. Keep secrets out of the interpreter's directories."),
        ("能得知解释器、microkernel 和插件自身的路径，以及安装在那里的全部模块，因为它就从那里运行。"
        "不要把机密放进解释器的目录。"))),
]  # fmt: skip
