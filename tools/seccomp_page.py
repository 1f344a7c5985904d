"""Generate docs/seccomp.md and its translation from the filter's tables: allowed calls, their arguments and the reasons.

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
        "Reading, writing and naming files. Landlock checks every path; operations that it does not cover (`truncate`, "
        "modes, owners, times, attributes, devices) are not allowed. `RLIMIT_FSIZE` limits file sizes, `RLIMIT_NOFILE` "
        "the number of descriptors.",
        "读写文件、给文件命名。每个路径都由 Landlock 检查；它不管的操作（`truncate`、权限、属主、时间、属性、设备）不允许。"
        "文件大小由 `RLIMIT_FSIZE` 限制，描述符数量由 `RLIMIT_NOFILE` 限制。",
    ),
    "memory": Text(
        "Used by the allocator. `RLIMIT_DATA` limits writable pages; the control group or the kernel's monitoring limits "
        "the total.",
        "由分配器使用。可写的页由 `RLIMIT_DATA` 限制，总量由控制组或内核的监视限制。",
    ),
    "itself": Text(
        "A process queries its own state, waits for its threads and exits. It cannot change anything of another process.",
        "进程查询自身状态、等待自己的线程、退出。不能改变其他进程的任何东西。",
    ),
    "time": Text(
        "Clocks, sleeping, timers. Each timer uses one pending signal, and `RLIMIT_SIGPENDING` is 256.",
        "时钟、睡眠、定时器。每个定时器占用一个待决信号，`RLIMIT_SIGPENDING` 为 256。",
    ),
    "signals": Text(
        "Handling of received signals. For sending, see the next table.", "处理收到的信号。发送信号见下一张表。"),
    "waiting": Text("Used by event loops.", "由事件循环使用。"),
    "sockets": Text(
        "For sockets that the process was given; it cannot create, bind, connect or accept one.",
        "用于交给进程的套接字；进程自己不能创建、绑定、连接或接受套接字。",
    ),
}  # fmt: skip
OF_RULES = {
    "sendto": Text(
        "Sends on connected sockets only: no address, no out-of-band data, no `MSG_FASTOPEN`, no `MSG_ZEROCOPY`. "
        "`sendmsg` and `sendmmsg` are refused, because they can carry descriptors.",
        "只能在已连接的套接字上发送：不带地址，没有带外数据、`MSG_FASTOPEN`、`MSG_ZEROCOPY`。`sendmsg` 和 `sendmmsg` 被拒绝，因为能携带描述符。"),
    "recvfrom": Text("No out-of-band data, no error queue.", "没有带外数据，没有错误队列。"),
    "recvmsg": Text(
        "As `recvfrom`. Workers need it to receive connections from the kernel.", "同 `recvfrom`。工作进程用它接收内核交来的连接。"),
    "open": Text(
        "`O_TRUNC` only together with writing, because old versions of Landlock do not check it. No set-user-id files.",
        "`O_TRUNC` 只能与写入同用，因为旧版 Landlock 不检查它。不能创建 set-user-id 文件。"),
    "openat": Text("As `open`.", "同 `open`。"),
    "creat": Text("As `open`.", "同 `open`。"),
    "close_range": Text(
        "Not `CLOSE_RANGE_UNSHARE`, because descriptors of a single thread would not be counted.",
        "不允许 `CLOSE_RANGE_UNSHARE`，因为单个线程独有的描述符不会计入。"),
    "fallocate": Text(
        "Allocates blocks within the file's size, or frees them. `RLIMIT_FSIZE` does not cover blocks beyond that size.",
        "在文件大小之内分配块，或释放块。`RLIMIT_FSIZE` 不管超出文件大小的块。"),
    "renameat2": Text(
        "Not `RENAME_WHITEOUT`, which leaves a device node behind.", "不允许 `RENAME_WHITEOUT`，它会留下设备节点。"),
    "fcntl": Text(
        "Duplication, flags, record locks (which are counted), reading the size of a pipe. Not `F_SETOWN` and `F_SETSIG`, "
        "which send signals; no open file description locks; no enlarging of pipes.",
        "复制、标志、记录锁（会计数）、读取管道大小。不允许会发送信号的 `F_SETOWN` 和 `F_SETSIG`，不允许打开文件描述锁，不允许扩大管道。"),
    "ioctl": Text(
        "Whether it is a terminal, and its size; the number of readable bytes; the blocking and close-on-exec flags.",
        "是否为终端及终端大小；可读的字节数；阻塞和 close-on-exec 标志。"),
    "mmap": Text(
        "Files, and private memory. `RLIMIT_DATA` does not cover shared memory, growing stacks and huge pages.",
        "文件和私有内存。`RLIMIT_DATA` 不管共享内存、自动增长的栈和大页。"),
    "madvise": Text(
        "Requests that allocators make. Not `MADV_MERGEABLE`, because merged pages reveal what other processes have in "
        "memory.",
        "分配器使用的请求。不允许 `MADV_MERGEABLE`，因为合并的页会泄露其他进程的内存内容。"),
    "clone": Text(
        "Threads that share the whole process; no processes, no namespaces.", "只能创建共享整个进程的线程；不能创建进程或命名空间。"),
    "kill": Text("To itself.", "只能发给自己。"),
    "tgkill": Text("To its own threads.", "只能发给自己的线程。"),
    "prctl": Text(
        "Names, and queries. Not `PR_SET_PDEATHSIG`, `PR_SET_DUMPABLE`, `PR_SET_MEMORY_MERGE` and others.",
        "命名和查询。不允许 `PR_SET_PDEATHSIG`、`PR_SET_DUMPABLE`、`PR_SET_MEMORY_MERGE` 等。"),
    "prlimit64": Text("Reads its own limits; cannot set any.", "只能读取自己的限额，不能设置。"),
    "sched_setaffinity": Text("For the calling thread.", "只对调用线程。"),
    "setpriority": Text("For the calling thread.", "只对调用线程。"),
    "socketpair": Text(
        "Unix pairs of stream and packet sockets. Datagram sockets could send to any address.",
        "流式和分组式的 Unix 套接字对。数据报套接字可以发往任意地址。"),
    "setsockopt": Text(
        "Buffer sizes, timeouts, keep-alive, `TCP_NODELAY` and similar. Not `SO_LINGER`, which makes the process that "
        "closes the last descriptor wait.",
        "缓冲区大小、超时、保活、`TCP_NODELAY` 等。不允许 `SO_LINGER`，它会使关闭最后一个描述符的进程等待。"),
    "getsockopt": Text(
        "The same options, and type, error and peer. Not `SO_PEERPIDFD`, which is a handle of the kernel's process, nor "
        "`TCP_ZEROCOPY_RECEIVE`, which maps memory.",
        "同样的选项，以及类型、错误和对端。不允许 `SO_PEERPIDFD`（内核进程的句柄），也不允许会映射内存的 `TCP_ZEROCOPY_RECEIVE`。"),
    "clock_gettime": Text(
        "Clocks with a fixed number, including its own processor time. Other numbers read the processor time of any "
        "process.",
        "编号固定的时钟，包括自己的处理器时间。其他编号可以读取任意进程的处理器时间。"),
    "clock_getres": Text("As `clock_gettime`.", "同 `clock_gettime`。"),
    "clock_nanosleep": Text("As `clock_gettime`.", "同 `clock_gettime`。"),
    "timer_create": Text("As `clock_gettime`.", "同 `clock_gettime`。"),
    "sched_getaffinity": Text(
        "For the calling thread and the first thread. Others get `ENOSYS`, so that the C library continues without it.",
        "只能查询调用线程和首个线程。查询其他线程得到 `ENOSYS`，C 库会略过它继续。"),
    "sched_getparam": Text("For the calling thread and the first thread.", "只能查询调用线程和首个线程。"),
    "sched_getscheduler": Text("For the calling thread and the first thread.", "只能查询调用线程和首个线程。"),
    "getpgid": Text("For itself.", "只能查询自己。"),
    "getsid": Text("For itself.", "只能查询自己。"),
    "getpriority": Text("For the calling thread and the first thread.", "只能查询调用线程和首个线程。"),
}  # fmt: skip
OF_ANSWERED = {
    errno.ENOSYS: Text(
        "A filter cannot inspect the structures that these calls take; libraries fall back to the older call.",
        "过滤器无法检查这些调用的参数结构；库会改用旧的调用。"),
    errno.ENOTSUP: Text(
        "Landlock does not cover extended attributes; libraries conclude that the file system has none.",
        "Landlock 不管扩展属性；库会认为文件系统不支持。"),
}  # fmt: skip
_WORDS = {
    "en": """# The system call filter

The system calls that a worker at `sandbox` or `wasm` may make: {free} calls with any arguments, {ruled} with certain
arguments, counted for x86_64 and aarch64 together. All other calls return `EPERM`; a call of another architecture, or
of x32, kills the process. This page is generated from the filter's own tables by `tools/seccomp_page.py`; a test fails
if it is out of date. The filter is one of [several layers](isolation.md#its-layers).

[中文](zh/seccomp.md). Other pages: [isolation](isolation.md), [design](design.md).
""",
    "zh": """# 系统调用过滤器

`sandbox` 或 `wasm` 级别的工作进程可以使用的系统调用：x86_64 与 aarch64 合计，{free} 个不限参数，{ruled} 个限定参数。其他调用一律返回 `EPERM`；
使用其他架构或 x32 的调用，进程会被强制终止。本页由 `tools/seccomp_page.py` 从过滤器自己的表生成；内容过时会使测试失败。
过滤器只是[若干层](isolation.md#有哪些层)之一。

[English](../seccomp.md)。其他页面：[隔离](isolation.md)、[设计（英文）](../design.md)。
""",
}
_HEADINGS = {
    "en": ("Allowed with any arguments", "Allowed with certain arguments", "Refused with a special answer",
           "Comparison with other sandboxes", "How it is tested"),
    "zh": ("不限参数", "限定参数", "以特殊结果拒绝", "与其他沙箱比较", "如何测试"),
}  # fmt: skip
_COLUMNS = {
    "en": (
        ("purpose", "calls", "reason"),
        ("call", "allowed if", "reason", "otherwise"),
        ("calls", "answer", "reason"),
    ),
    "zh": (("用途", "调用", "原因"), ("调用", "允许的条件", "原因", "否则"), ("调用", "返回", "原因")),
}
_GROUP_NAMES = {
    "files": "文件", "memory": "内存", "itself": "进程自身", "time": "时间", "signals": "信号", "waiting": "等待",
    "sockets": "套接字",
}  # fmt: skip
_LEGEND = {
    "en": "`a0` is the first argument, `own` the worker's pid. All conditions of a line must hold; one line is enough.",
    "zh": "`a0` 是第一个参数，`own` 是工作进程的 pid。一行里的条件必须全部成立；有一行成立即可。",
}
_COMPARED = {
    "en": """| | rule | processes, programs | own sockets | arguments checked |
|---|---|---|---|---|
| this filter | allow-list | no | no; connections are passed in | for {ruled} calls |
| Docker's default | allow-list, more than twice as long, because a container runs whole systems | yes | yes | for a few: `clone`, `socket`, `personality` |
| Chromium's baseline policy | allow-list; the same approach for `kill`, `fcntl`, `madvise`, `prctl`, `prlimit64`, `socketpair` and clocks; files are opened by a broker instead of Landlock | no | no; descriptors arrive by `recvmsg`, and `sendmsg` is allowed | for many |
| bubblewrap | none: it installs the filter program that it is given (`--seccomp`), and relies on namespaces | yes | according to the network namespace | as that program does |
| nsjail | none, unless a policy is written for it (Kafel) | yes | according to the network namespace | as the policy says |

Every call that is allowed here is also allowed in Docker's default profile. The reverse does not hold: `execve`, `fork`,
`socket`, `connect`, `bind`, `sendmsg`, `ptrace`, `memfd_create`, `chmod`, `chown`, `inotify_init`, `shmget` and many
more are refused here.
""",
    "zh": """| | 规则 | 进程、程序 | 自己的套接字 | 检查参数 |
|---|---|---|---|---|
| 本过滤器 | 白名单 | 不能 | 不能；连接由内核交给它 | {ruled} 个调用 |
| Docker 默认配置 | 白名单，长度超过两倍，因为容器要运行整个系统 | 能 | 能 | 少数：`clone`、`socket`、`personality` |
| Chromium 基础策略 | 白名单；对 `kill`、`fcntl`、`madvise`、`prctl`、`prlimit64`、`socketpair`、时钟的做法相同；文件由代理打开，而不用 Landlock | 不能 | 不能；描述符经 `recvmsg` 到达，允许 `sendmsg` | 许多 |
| bubblewrap | 没有：它安装交给它的过滤程序（`--seccomp`），依靠命名空间隔离 | 能 | 取决于网络命名空间 | 取决于该过滤程序 |
| nsjail | 没有，除非为它编写策略（Kafel） | 能 | 取决于网络命名空间 | 取决于策略 |

这里允许的每个调用，Docker 默认配置也允许。反过来不成立：`execve`、`fork`、`socket`、`connect`、`bind`、`sendmsg`、`ptrace`、`memfd_create`、
`chmod`、`chown`、`inotify_init`、`shmget` 等许多调用在这里被拒绝。
""",
}
_TESTED = {
    "en": """- A process with the filter makes every call, by number from 0 on, that is not in these tables; each must be refused.
  Two calls of newer systems, `uretprobe` and `uprobe`, are left out, because they bypass every filter and kill the
  process that makes them.
- The filter program runs in an emulator for both architectures, with the numbers of the system's headers; each rule is
  tested with arguments on both sides of its bounds (`tests/security/sandbox/test_seccomp.py`).
- Attempts in real plugins that were observed to succeed at `process`: `tests/security/sandbox/test_confinement.py` and
  [the red team's table](isolation.md#the-red-teams-table).
""",
    "zh": """- 一个装有过滤器的进程按编号从 0 起，逐个发出不在这些表里的调用；每个都必须被拒绝。
  新系统的 `uretprobe` 和 `uprobe` 除外，因为它们绕过所有过滤器，并强制终止发出它们的进程。
- 过滤程序在模拟器里按两种架构运行，编号取自系统头文件；每条规则都用边界两侧的参数测试（`tests/security/sandbox/test_seccomp.py`）。
- 在真实插件里尝试，并观察到它们在 `process` 成功：`tests/security/sandbox/test_confinement.py` 和[红队表](isolation.md#红队表)。
""",
}


def render(language: str) -> str:
    """Return the whole page."""
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
    """Return the usual name where two names have one number."""
    return "EOPNOTSUPP" if name == "ENOTSUP" else name


def _named(call: str) -> str:
    """Return the call's name, with the architecture if only one has it."""
    numbers = FREE.get(call) or WITH_RULES.get(call) or ANSWERED[call]
    return f"`{call}`" + ("" if len(numbers) == len(MACHINES) else f" ({next(iter(numbers))})")


def _conditions(rule: Rule) -> str:
    """Return the conditions, one line each; ways that differ only in the last test's value share a line."""
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
