"""Writes docs/seccomp.md and its translation from the tables of the filter: what is allowed, for which arguments, and why.

.venv/bin/python -m tools.seccomp_page
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from microkernel.worker.confine.seccomp import ANSWERS, REFUSALS, RULES, ArgumentTest, Rule
from microkernel.worker.confine.syscall_table import ANSWERED, FREE, GROUPS, MACHINES, WITH_RULES

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"en": ROOT / "docs" / "seccomp.md", "zh": ROOT / "docs" / "zh" / "seccomp.md"}


class Text(NamedTuple):
    en: str
    zh: str


OF_GROUPS = {
    "files": Text(
        "Reading, writing and naming files. Landlock judges every path; what it does not judge (`truncate`, modes, owners, "
        "times, attributes, devices) is not here. Sizes are bounded by `RLIMIT_FSIZE`, descriptors by `RLIMIT_NOFILE`.",
        "读写文件、给文件命名。每个路径都由 Landlock 判定；它不管的（`truncate`、权限、属主、时间、属性、设备）不在此列。"
        "大小由 `RLIMIT_FSIZE` 限制，描述符由 `RLIMIT_NOFILE` 限制。",
    ),
    "memory": Text(
        "The allocator's. Writable pages are bounded by `RLIMIT_DATA`, the whole by the control group or the kernel's watch.",
        "分配器要用。可写的页由 `RLIMIT_DATA` 限制，整体由控制组限制，或由核心监视。",
    ),
    "itself": Text(
        "A process asks about itself, waits for its threads and ends. Nothing of another process can be changed.",
        "进程查询自己、等待自己的线程、结束。不能改变别的进程的任何东西。",
    ),
    "time": Text(
        "Clocks, sleeping, timers. Timers take a pending signal each, and `RLIMIT_SIGPENDING` is 256.",
        "时钟、睡眠、定时器。每个定时器占一个待决信号，`RLIMIT_SIGPENDING` 是 256。",
    ),
    "signals": Text("Handling the signals that it gets. Sending is below.", "处理收到的信号。发送见下表。"),
    "waiting": Text("Event loops.", "事件循环要用。"),
    "sockets": Text(
        "For the sockets that it was given: it cannot make, bind, connect or accept one.",
        "用于交给它的套接字：它自己不能创建、绑定、连接或接受。",
    ),
}
OF_RULES = {
    "sendto": Text(
        "Sends on connected sockets alone: no address, no data out of band, no `MSG_FASTOPEN`, no `MSG_ZEROCOPY`. "
        "`sendmsg` and `sendmmsg`, which carry descriptors, are refused.",
        "只能在已连接的套接字上发送：不带地址，没有带外数据、`MSG_FASTOPEN`、`MSG_ZEROCOPY`。能携带描述符的 `sendmsg`、`sendmmsg` 被拒绝。"),
    "recvfrom": Text("No data out of band, no error queue.", "没有带外数据，没有错误队列。"),
    "recvmsg": Text(
        "As `recvfrom`. The kernel hands connections to a worker by it.", "同 `recvfrom`。核心用它把连接交给工作进程。"),
    "open": Text(
        "`O_TRUNC` for writing only, since an old Landlock does not judge it; no set-user-id file is made.",
        "`O_TRUNC` 只许与写入同用，因为旧的 Landlock 不判定它；不能建 set-user-id 文件。"),
    "openat": Text("As `open`.", "同 `open`。"),
    "creat": Text("As `open`.", "同 `open`。"),
    "close_range": Text(
        "Not `CLOSE_RANGE_UNSHARE`: descriptors of one thread alone would not be counted.",
        "不许 `CLOSE_RANGE_UNSHARE`：单个线程独有的描述符会数不到。"),
    "fallocate": Text(
        "Blocks within the file's size, or given back. Blocks beyond it are not in `RLIMIT_FSIZE`.",
        "只能在文件大小之内分配，或释放。超出大小的块不计入 `RLIMIT_FSIZE`。"),
    "renameat2": Text(
        "Not `RENAME_WHITEOUT`, which leaves a device behind.", "不许 `RENAME_WHITEOUT`，它会留下一个设备文件。"),
    "fcntl": Text(
        "Duplicates, flags, record locks (which are counted), sizes of pipes to read. Not `F_SETOWN` and `F_SETSIG`, which "
        "send signals, not locks of open files, not larger pipes.",
        "复制、标志、记录锁（会计数）、读取管道大小。不许会发信号的 `F_SETOWN`、`F_SETSIG`，不许打开文件锁，不许扩大管道。"),
    "ioctl": Text(
        "Is it a terminal, how large, how much is there to read; blocking and inheritance.",
        "是不是终端、多大、有多少可读；阻塞与继承标志。"),
    "mmap": Text(
        "Files, and private memory. Shared memory, stacks that grow and huge pages are not in `RLIMIT_DATA`.",
        "文件和私有内存。共享内存、会增长的栈、大页不计入 `RLIMIT_DATA`。"),
    "madvise": Text(
        "What allocators ask for. Not `MADV_MERGEABLE`: by merged pages a process finds out what others have in memory.",
        "分配器会用到的。不许 `MADV_MERGEABLE`：通过合并的页可以探知别人的内存内容。"),
    "clone": Text(
        "Threads that share all of the process; no process, no namespace.", "只能建共享整个进程的线程；不能建进程或命名空间。"),
    "kill": Text("To itself.", "只能发给自己。"),
    "tgkill": Text("To its own threads.", "只能发给自己的线程。"),
    "prctl": Text(
        "Names, and questions. Not `PR_SET_PDEATHSIG`, `PR_SET_DUMPABLE`, `PR_SET_MEMORY_MERGE` and the rest.",
        "命名和查询。不许 `PR_SET_PDEATHSIG`、`PR_SET_DUMPABLE`、`PR_SET_MEMORY_MERGE` 等。"),
    "prlimit64": Text("Reads its own limits; sets none.", "只读自己的限额，不能设置。"),
    "sched_setaffinity": Text("Of the calling thread.", "只对调用的线程。"),
    "setpriority": Text("Of the calling thread.", "只对调用的线程。"),
    "socketpair": Text(
        "Unix pairs of streams and packets. One of datagrams could send to any address.",
        "流式和分组式的 Unix 套接字对。数据报式的可以发往任意地址。"),
    "setsockopt": Text(
        "Sizes, time-outs, keep-alive, `TCP_NODELAY` and its kind. Not `SO_LINGER`: whoever closes the last descriptor "
        "would wait.",
        "大小、超时、保活、`TCP_NODELAY` 之类。不许 `SO_LINGER`：关闭最后一个描述符的一方会被迫等待。"),
    "getsockopt": Text(
        "These, kinds, errors and who is at the other end. Not `SO_PEERPIDFD`, a handle of the kernel's process, nor "
        "`TCP_ZEROCOPY_RECEIVE`, which maps memory.",
        "上述选项，以及种类、错误、对端是谁。不许 `SO_PEERPIDFD`（核心进程的句柄），也不许会映射内存的 `TCP_ZEROCOPY_RECEIVE`。"),
    "clock_gettime": Text(
        "The clocks that have a fixed number, with its own processor time. Other numbers tell the processor time of any "
        "process.",
        "编号固定的时钟，其中有自己的处理器时间。其他编号可以读到任何进程的处理器时间。"),
    "clock_getres": Text("As `clock_gettime`.", "同 `clock_gettime`。"),
    "clock_nanosleep": Text("As `clock_gettime`.", "同 `clock_gettime`。"),
    "timer_create": Text("As `clock_gettime`.", "同 `clock_gettime`。"),
    "sched_getaffinity": Text(
        "Of the calling thread and of the first one. `ENOSYS` for others: the C library then goes on without it.",
        "只能问调用的线程和首个线程。对其他线程回答 `ENOSYS`：C 库会略过它继续。"),
    "sched_getparam": Text("Of the calling thread and of the first one.", "只能问调用的线程和首个线程。"),
    "sched_getscheduler": Text("Of the calling thread and of the first one.", "只能问调用的线程和首个线程。"),
    "getpgid": Text("Of itself.", "只能问自己。"),
    "getsid": Text("Of itself.", "只能问自己。"),
    "getpriority": Text("Of the calling thread and of the first one.", "只能问调用的线程和首个线程。"),
}  # fmt: skip
OF_ANSWERED = {
    errno.ENOSYS: Text(
        "A filter cannot look into what these are given; libraries then use the older call.",
        "过滤器看不到它们的参数内容；库会改用旧的调用。"),
    errno.ENOTSUP: Text(
        "Landlock does not judge attributes; libraries take this for a file system without them.",
        "Landlock 不判定扩展属性；库会当作文件系统不支持。"),
}  # fmt: skip
_WORDS = {
    "en": """# The filter of system calls

What a worker at `sandbox` or `wasm` may ask of the system: {free} calls with any arguments, {ruled} with some, on x86_64
and aarch64 together. Everything else is `EPERM`, and a call of another architecture, or of x32, is death. This page is
written from the filter's own tables by `tools/seccomp_page.py`; a test fails when it is not current. Beside the filter
stand the [other layers](isolation.md#its-layers).

[中文](zh/seccomp.md). Other pages: [isolation](isolation.md), [design](design.md).
""",
    "zh": """# 系统调用过滤器

`sandbox` 或 `wasm` 级别的工作进程可以向系统请求什么：x86_64 与 aarch64 合计，{free} 个调用不限参数，{ruled} 个限定参数。其余一律 `EPERM`；
使用别的架构或 x32 的调用，进程即死。本页由 `tools/seccomp_page.py` 从过滤器自己的表生成；内容过时会有测试失败。
过滤器之外还有[其他各层](isolation.md#有哪些层)。

[English](../seccomp.md)。其他页面：[隔离](isolation.md)。
""",
}
_HEADINGS = {
    "en": ("Allowed with any arguments", "Allowed with some arguments", "Refused with an answer of their own",
           "Compared with others", "How it is tested"),
    "zh": ("不限参数", "限定参数", "拒绝时另有回答", "与其他沙箱比较", "怎样测试"),
}  # fmt: skip
_COLUMNS = {
    "en": (("what for", "calls", "why"), ("call", "allowed if", "why", "else"), ("calls", "answer", "why")),
    "zh": (("用途", "调用", "原因"), ("调用", "允许的条件", "原因", "否则"), ("调用", "回答", "原因")),
}
_GROUP_NAMES = {
    "files": "文件", "memory": "内存", "itself": "进程自身", "time": "时间", "signals": "信号", "waiting": "等待",
    "sockets": "套接字",
}  # fmt: skip
_LEGEND = {
    "en": "`a0` is the first argument, `own` the worker's pid. Several conditions in one line must all hold; one line is "
    "enough.",
    "zh": "`a0` 是第一个参数，`own` 是工作进程的 pid。一行里的条件须全部成立；有一行成立即可。",
}
_COMPARED = {
    "en": """| | rule | processes, programs | sockets of its own | arguments are looked at |
|---|---|---|---|---|
| this filter | allow-list | no | no; connections are handed over | of {ruled} calls |
| Docker's default | allow-list, more than twice as long: a container runs whole systems | yes | yes | of a few: `clone`, `socket`, `personality` |
| Chromium's baseline policy | allow-list; the same idea for `kill`, `fcntl`, `madvise`, `prctl`, `prlimit64`, `socketpair` and clocks, and files are opened by a broker instead of Landlock | no | no; descriptors arrive by `recvmsg`, and `sendmsg` is allowed | of many |
| bubblewrap | none: it installs what it is handed (`--seccomp`), and holds by namespaces | yes | by a network namespace | as the handed program does |
| nsjail | none, unless a policy is written for it (Kafel) | yes | by a network namespace | as the policy says |

Every call that is allowed here is allowed in Docker's default profile as well; the reverse does not hold for `execve`,
`fork`, `socket`, `connect`, `bind`, `sendmsg`, `ptrace`, `memfd_create`, `chmod`, `chown`, `inotify_init`, `shmget` and
many more.
""",
    "zh": """| | 规则 | 进程、程序 | 自己的套接字 | 检查参数 |
|---|---|---|---|---|
| 本过滤器 | 白名单 | 不能 | 不能；连接由核心交给它 | {ruled} 个调用 |
| Docker 默认配置 | 白名单，长度超过两倍：容器要运行整个系统 | 能 | 能 | 少数：`clone`、`socket`、`personality` |
| Chromium 基础策略 | 白名单；对 `kill`、`fcntl`、`madvise`、`prctl`、`prlimit64`、`socketpair`、时钟的做法相同，文件由代理打开，而不用 Landlock | 不能 | 不能；描述符经 `recvmsg` 到达，允许 `sendmsg` | 许多 |
| bubblewrap | 没有：它安装交给它的程序（`--seccomp`），靠命名空间隔离 | 能 | 由网络命名空间决定 | 由交给它的程序决定 |
| nsjail | 没有，除非另写策略（Kafel） | 能 | 由网络命名空间决定 | 由策略决定 |

这里允许的每个调用，Docker 默认配置也允许；反过来则不然：`execve`、`fork`、`socket`、`connect`、`bind`、`sendmsg`、`ptrace`、`memfd_create`、
`chmod`、`chown`、`inotify_init`、`shmget` 等许多调用在这里被拒绝。
""",
}
_TESTED = {
    "en": """- A process with the filter makes every call by its number, from 0 on, that is not in these tables; each must be refused.
  Left out are `uretprobe` and `uprobe` of newer systems, which pass every filter and end who makes them.
- The program is run in an emulator for both architectures with the numbers of the system's headers, and each rule with
  arguments at both sides of it (`tests/sandbox/test_seccomp.py`).
- Attempts in real plugins, seen to succeed at `process`: `tests/sandbox/test_walls.py` and
  [the red team's table](isolation.md#the-red-teams-table).
""",
    "zh": """- 一个装了过滤器的进程按编号从 0 起，逐个发出不在这些表里的调用；每个都必须被拒绝。
  新系统的 `uretprobe` 和 `uprobe` 除外：它们不经任何过滤器，发出它们的进程会被系统结束。
- 过滤程序在模拟器里按两种架构运行，编号取自系统头文件，每条规则都用界线两侧的参数试过（`tests/sandbox/test_seccomp.py`）。
- 在真实插件里尝试，并看到它们在 `process` 成功：`tests/sandbox/test_walls.py` 和[红队表](isolation.md#红队表)。
""",
}


def render(language: str) -> str:
    """The whole page."""
    counts = {"free": len(FREE), "ruled": len(WITH_RULES)}
    free, ruled, answered, compared, tested = (f"## {heading}\n" for heading in _HEADINGS[language])
    columns = _COLUMNS[language]
    parts = [
        _WORDS[language].format(**counts),
        free, _table(columns[0], [_of_group(group, language) for group in GROUPS]),
        ruled, _LEGEND[language] + "\n", _table(columns[1], [_of_rule(name, language) for name in WITH_RULES]),
        answered, _table(columns[2], [_of_answer(code, language) for code in OF_ANSWERED]),
        compared, _COMPARED[language].format(**counts), tested, _TESTED[language],
    ]  # fmt: skip
    return "\n".join(parts)


def _of_group(group: str, language: str) -> list[str]:
    name = group if language == "en" else _GROUP_NAMES[group]
    return [name, " ".join(map(_named, GROUPS[group])), getattr(OF_GROUPS[group], language)]


def _of_rule(name: str, language: str) -> list[str]:
    refusal = errno.errorcode[REFUSALS.get(name, errno.EPERM)]
    return [_named(name), _conditions(RULES[name]), getattr(OF_RULES[name], language), f"`{_usual(refusal)}`"]


def _of_answer(code: int, language: str) -> list[str]:
    calls = [name for name in ANSWERED if ANSWERS[name] == code]
    return [" ".join(map(_named, calls)), f"`{_usual(errno.errorcode[code])}`", getattr(OF_ANSWERED[code], language)]


def _usual(name: str) -> str:
    """Two names have one number."""
    return "EOPNOTSUPP" if name == "ENOTSUP" else name


def _named(call: str) -> str:
    """With the machine, where only one has it."""
    numbers = FREE.get(call) or WITH_RULES.get(call) or ANSWERED[call]
    return f"`{call}`" + ("" if len(numbers) == len(MACHINES) else f" ({next(iter(numbers))})")


def _conditions(rule: Rule) -> str:
    """What differs in one test only is one line."""
    values: dict[tuple[tuple[ArgumentTest, ...], ArgumentTest], list[int]] = {}
    for way in rule:
        *first, last = way
        values.setdefault((tuple(first), last._replace(value=0)), []).append(last.value)
    lines = (
        " and ".join([*(_condition(test, [test.value]) for test in first), _condition(last, found)])
        for (first, last), found in values.items()
    )
    return "<br>".join(f"`{line}`" for line in lines)


def _condition(test: ArgumentTest, values: Sequence[int]) -> str:
    argument = f"a{test.argument}" if test.mask == 0xFFFFFFFF else f"a{test.argument} & {test.mask:#x}"
    if test.own:
        return f"{argument} = own"
    return f"{argument} {'=' if len(values) == 1 else 'in'} {', '.join(map(_number, values))}"


def _number(value: int) -> str:
    return str(value) if value < 1024 else f"{value:#x}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def main() -> None:
    for language, path in PAGES.items():
        path.write_text(render(language), encoding="utf-8")


if __name__ == "__main__":
    main()
