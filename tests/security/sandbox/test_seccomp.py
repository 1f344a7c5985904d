"""The filter, run by an interpreter of ours: for both architectures, on any machine."""

from __future__ import annotations

import errno
import json
import re
import struct
import subprocess
import sys

import pytest

from microkernel.worker.confine import seccomp
from microkernel.worker.confine.seccomp import AND, AT_LEAST, EQUAL, LOAD, RETURN, Filter
from microkernel.worker.confine.syscall_table import ANSWERED, FREE, GROUPS, MACHINES, WITH_RULES, Machine
from tools import seccomp_page

PID = 4321
ALLOW, KILL = "allow", "kill"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FILTERS = {machine: Filter(machine).for_process(PID) for machine in MACHINES}


def run(code: bytes, data: bytes) -> int:
    """Interpret classic BPF, as far as the filter uses it."""
    accumulator, place = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, place * 8)
        place += 1
        if operation == RETURN:
            return int(value)
        if operation == LOAD:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == AND:
            accumulator &= value
        else:
            holds = {EQUAL: accumulator == value, AT_LEAST: accumulator >= value}[operation]
            place += if_true if holds else if_false


def answer(machine: Machine, number: int, *arguments: int, architecture: int = 0) -> str | int:
    """Return ``allow``, ``kill`` or an errno."""
    words = [argument & (2**64 - 1) for argument in (*arguments, *(0 for _ in range(6 - len(arguments))))]
    data = struct.pack("=IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *words)
    result = run(FILTERS[machine], data)
    if result == seccomp.ALLOW:
        return ALLOW
    return KILL if result == seccomp.KILL else result & 0xFFFF


def number_of(machine: Machine, name: str) -> int:
    for table in (FREE, WITH_RULES, ANSWERED):
        if name in table:
            return table[name][machine]
    raise LookupError(name)


def headers(machine: Machine) -> dict[str, int]:
    """Return the numbers in this system's own headers."""
    wanted = {"x86_64": "#include <asm/unistd_64.h>\n", "aarch64": _GENERIC}[machine]
    try:
        made = subprocess.run(["cc", "-E", "-dM", "-"], input=wanted, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no compiler, or no headers of this architecture")
    raw = dict(re.findall(r"#define (__NR\w*) (\S+)", made.stdout))
    return {name[5:]: int(raw.get(value, value)) for name, value in raw.items() if raw.get(value, value).isdigit()}


_GENERIC = """
#define __BITS_PER_LONG 64
#define __ARCH_WANT_RENAMEAT
#define __ARCH_WANT_NEW_STAT
#define __ARCH_WANT_SET_GET_RLIMIT
#define __ARCH_WANT_SYS_CLONE3
#include <asm-generic/unistd.h>
"""


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_systems_own(machine: Machine) -> None:
    worker_end = headers(machine)
    ours = {name: numbers[machine] for table in (FREE, WITH_RULES, ANSWERED) for name, numbers in table.items()
            if machine in numbers}  # fmt: skip
    assert len(ours) > 140
    assert ours == {name: worker_end.get(name) for name in ours}


@pytest.mark.parametrize("machine", MACHINES)
def test_only_what_is_in_the_tables_is_ever_allowed(machine: Machine) -> None:
    worker_end = headers(machine)
    listed = {numbers.get(machine) for table in (FREE, WITH_RULES) for numbers in table.values()}
    for name, number in worker_end.items():
        if number not in listed and name not in ANSWERED:
            assert answer(machine, number) == errno.EPERM, name
    assert answer(machine, 5000) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_kill(machine: Machine) -> None:
    for other in {0x40000003, 0x40000028, *ARCHITECTURES.values()} - {ARCHITECTURES[machine]}:
        assert answer(machine, number_of(machine, "read"), architecture=other) == KILL


def test_x32_calls_kill() -> None:
    assert answer("x86_64", 0x40000000) == KILL
    assert answer("x86_64", 0x40000000 + 520) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", [
    "execve", "execveat", "fork", "vfork", "unshare", "setns", "socket", "connect", "bind", "listen", "accept",
    "accept4", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
    "mount", "umount2", "pivot_root", "chroot", "bpf", "perf_event_open", "keyctl", "add_key", "request_key",
    "io_uring_setup", "io_uring_enter", "userfaultfd", "memfd_create", "shmget", "shmat", "semget", "msgget",
    "mq_open", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utime", "utimensat", "truncate", "mknod",
    "mknodat", "inotify_add_watch", "fanotify_init", "setrlimit", "seccomp", "setuid", "setresuid", "capset",
    "sendmsg", "sendmmsg", "recvmmsg",
    "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "reboot", "sync", "vmsplice", "splice", "personality",
    "sched_setscheduler", "ioprio_set", "kcmp", "init_module", "kexec_load", "swapon", "settimeofday", "modify_ldt",
    "open_by_handle_at", "name_to_handle_at", "landlock_restrict_self", "quotactl", "sethostname", "iopl",
])  # fmt: skip
def test_calls_that_are_not_listed_are_refused(machine: Machine, name: str) -> None:
    worker_end = headers(machine)
    if name in worker_end:
        assert answer(machine, worker_end[name], 0, 0, 0, 0, 0, 0) == errno.EPERM


THREAD = 0x3D0F00
CLOCK_CALLS = ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create")
OF_ANOTHER = (~(PID + 1)) << 3 | 2  # the processor time of a process, as clock_getcpuclockid makes it
OF_A_PROCESS = ("sched_getparam", "sched_getscheduler", "getsid")
CASES: list[tuple[str, tuple[int, ...], str | int]] = [
    ("clone", (THREAD,), ALLOW),
    ("clone", (THREAD & ~0x10000,), errno.EPERM),
    ("clone", (THREAD & ~0x400,), errno.EPERM),
    ("clone", (17,), errno.EPERM),
    ("clone", (THREAD | 0x10000000,), errno.EPERM),
    ("clone3", (), errno.ENOSYS),
    ("openat2", (), errno.ENOSYS),
    ("kill", (PID, 9), ALLOW),
    ("kill", (PID + 1, 9), errno.EPERM),
    ("kill", (0, 9), errno.EPERM),
    ("kill", (-1, 9), errno.EPERM),
    ("kill", (-PID, 9), errno.EPERM),
    ("tgkill", (PID, PID + 1, 6), ALLOW),
    ("tgkill", (1, 1, 6), errno.EPERM),
    ("prlimit64", (0, 7, 0), ALLOW),
    ("prlimit64", (PID, 7, 0), ALLOW),
    ("prlimit64", (PID, 7, 0x7F0000000000), errno.EPERM),
    ("prlimit64", (0, 7, 0xFFFFFFFF00000000), errno.EPERM),
    ("prlimit64", (1, 7, 0), errno.EPERM),
    ("socketpair", (1, 1, 0), ALLOW),
    ("socketpair", (1, 1 | 0x80800, 0), ALLOW),
    ("socketpair", (1, 5, 0), ALLOW),
    ("socketpair", (1, 2, 0), errno.EPERM),
    ("socketpair", (16, 1, 0), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x22), ALLOW),
    ("mmap", (0, 4096, 3, 0x20022), ALLOW),
    ("mmap", (0, 4096, 3, 0x1), ALLOW),
    ("mmap", (0, 4096, 3, 0x21), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x23), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x28), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x122), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x40022), errno.EPERM),
    ("openat", (-100, 0, 0), ALLOW),
    ("openat", (-100, 0, 0o1101), ALLOW),
    ("openat", (-100, 0, 0o1102), ALLOW),
    ("openat", (-100, 0, 0o1000), errno.EPERM),
    ("openat", (-100, 0, 0o101, 0o755), ALLOW),
    ("openat", (-100, 0, 0o101, 0o4755), errno.EPERM),
    ("openat", (-100, 0, 0o102, 0o2755), errno.EPERM),
    ("openat", (-100, 0, 0o100, 0o4755), errno.EPERM),
    ("openat", (-100, 0, 0o1003), errno.EPERM),
    ("fcntl", (3, 1030), ALLOW),
    ("fcntl", (3, 8), errno.EPERM),
    ("fcntl", (3, 10), errno.EPERM),
    ("fcntl", (3, 15), errno.EPERM),
    ("fcntl", (3, 1024), errno.EPERM),
    ("ioctl", (1, 0x5401), ALLOW),
    ("ioctl", (0, 0x5412), errno.EPERM),
    ("ioctl", (3, 0x8901), errno.EPERM),
    ("prctl", (15,), ALLOW),
    ("prctl", (22,), errno.EPERM),
    ("prctl", (36,), errno.EPERM),
    ("prctl", (1,), errno.EPERM),
    ("sendto", (3, 0, 1, 0x4000, 0, 0), ALLOW),
    ("sendto", (3, 0, 1, 0, 0x7F0000000000, 16), errno.EPERM),
    ("sendto", (3, 0, 1, 0x20000000, 0, 0), errno.EPERM),
    ("sendto", (3, 0, 1, 0x1, 0, 0), errno.EPERM),
    ("sendto", (3, 0, 1, 0x4001, 0, 0), errno.EPERM),
    ("sendto", (3, 0, 1, 0x4000000, 0, 0), errno.EPERM),
    ("recvfrom", (3, 0, 1, 0x40), ALLOW),
    ("recvfrom", (3, 0, 1, 0x2), ALLOW),
    ("recvfrom", (3, 0, 1, 0x1), errno.EPERM),
    ("recvfrom", (3, 0, 1, 0x2000), errno.EPERM),
    ("recvmsg", (3, 0, 0x40000000), ALLOW),
    ("recvmsg", (3, 0, 0x1), errno.EPERM),
    ("recvmsg", (3, 0, 0x2040), errno.EPERM),
    ("getsockopt", (3, 1, 4), ALLOW),
    ("getsockopt", (3, 1, 77), errno.EPERM),
    ("getsockopt", (3, 6, 35), errno.EPERM),
    ("setsockopt", (3, 1, 9), ALLOW),
    ("setsockopt", (3, 1, 13), errno.EPERM),
    ("setsockopt", (3, 1, 10), errno.EPERM),
    ("setsockopt", (3, 1, 42), errno.EPERM),
    ("close_range", (3, 9, 0), ALLOW),
    ("close_range", (3, 9, 4), ALLOW),
    ("close_range", (3, 9, 2), errno.EPERM),
    ("close_range", (3, 9, 6), errno.EPERM),
    ("fallocate", (3, 0, 0, 4096), ALLOW),
    ("fallocate", (3, 3, 0, 4096), ALLOW),
    ("fallocate", (3, 1, 0, 4096), errno.EOPNOTSUPP),
    ("fallocate", (3, 0x11, 0, 4096), errno.EOPNOTSUPP),
    ("fallocate", (3, 0x40, 0, 4096), errno.EOPNOTSUPP),
    ("renameat2", (-100, 0, -100, 0, 1), ALLOW),
    ("renameat2", (-100, 0, -100, 0, 2), ALLOW),
    ("renameat2", (-100, 0, -100, 0, 4), errno.EPERM),
    ("renameat2", (-100, 0, -100, 0, 5), errno.EPERM),
    ("madvise", (0, 4096, 4), ALLOW),
    ("madvise", (0, 4096, 14), ALLOW),
    ("madvise", (0, 4096, 12), errno.EPERM),
    ("madvise", (0, 4096, 13), errno.EPERM),
    ("madvise", (0, 4096, 100), errno.EPERM),
    ("fcntl", (3, 6), ALLOW),
    ("fcntl", (3, 37), errno.EPERM),
    ("fcntl", (3, 38), errno.EPERM),
    ("fcntl", (3, 1031), errno.EPERM),
    ("fcntl", (3, 1033), errno.EPERM),
    ("prctl", (67,), errno.EPERM),
    ("setsockopt", (3, 6, 1), ALLOW),
    ("setsockopt", (3, 1, 26), errno.EPERM),
    ("setsockopt", (3, 6, 31), errno.EPERM),
    ("sched_setaffinity", (0,), ALLOW),
    ("sched_setaffinity", (1,), errno.EPERM),
    ("setpriority", (0, 0, 19), ALLOW),
    ("setpriority", (2, 0, 19), errno.EPERM),
    ("getxattr", (), errno.ENOTSUP),
    *((call, (clock,), ALLOW) for call in CLOCK_CALLS for clock in range(12)),
    *((call, (clock,), errno.EPERM) for call in CLOCK_CALLS for clock in (12, 16, OF_ANOTHER, OF_ANOTHER | 4, -6)),
    *((call, (who,), ALLOW) for call in OF_A_PROCESS for who in (0, PID)),
    *((call, (who,), errno.EPERM) for call in OF_A_PROCESS for who in (1, PID + 1, -1)),
    ("sched_getaffinity", (0,), ALLOW),
    ("sched_getaffinity", (PID,), ALLOW),
    ("sched_getaffinity", (PID + 1,), errno.ENOSYS),
    ("getpriority", (0, 0), ALLOW),
    ("getpriority", (0, PID), ALLOW),
    ("getpriority", (0, 1), errno.EPERM),
    ("getpriority", (1, 0), errno.EPERM),
    ("getpriority", (2, 0), errno.EPERM),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "expected"), CASES, ids=[f"{c[0]}{c[1]}" for c in CASES])
def test_rules(machine: Machine, name: str, arguments: tuple[int, ...], expected: str | int) -> None:
    assert answer(machine, number_of(machine, name), *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_without_rules_are_allowed_with_any_arguments(machine: Machine) -> None:
    for name, numbers in FREE.items():
        if machine in numbers:
            assert answer(machine, numbers[machine], *[2**64 - 1] * 6) == ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_accepts_the_program(machine: Machine) -> None:
    """It has at most 4,096 instructions, each jump stays inside, and the last instruction returns."""
    code = FILTERS[machine]
    instructions = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    assert len(instructions) <= 4096
    assert instructions[-1][0] == RETURN
    for place, (operation, if_true, if_false, _) in enumerate(instructions):
        assert operation in (LOAD, AND, EQUAL, AT_LEAST, RETURN)
        assert place + 1 + max(if_true, if_false) < len(instructions) or operation == RETURN


_OF_A_THREAD = """
import ctypes, os, threading, time
from microkernel.worker.confine import seccomp
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
seccomp.install(seccomp.Filter(seccomp.machine()))
libc.pthread_self.restype = ctypes.c_void_p
def ask():
    attributes = ctypes.create_string_buffer(256)
    print(libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes), time.thread_time_ns() > 0,
          time.process_time_ns() > 0, len(os.sched_getaffinity(0)) > 0, flush=True)
    for other in ((~os.getppid()) << 3) | 2, ((~1) << 3) | 6:
        try:
            print(time.clock_gettime_ns(other), flush=True)
        except PermissionError:
            print("refused", flush=True)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
os._exit(0)
"""


def test_a_thread_knows_its_own_stack_and_clocks_and_those_of_no_other_process() -> None:
    """Libraries ask for the stack; to find it the C library asks for the thread's processors by its number."""
    done = subprocess.run([sys.executable, "-c", _OF_A_THREAD], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["0 True True True", "refused", "refused"], done.stderr


# The page that is generated from these tables


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_docs_have_these_tables(language: str) -> None:
    page = seccomp_page.PAGES[language].read_text(encoding="utf-8")
    assert page == seccomp_page.render(language), "run: .venv/bin/python -m tools.seccomp_page"


def test_each_call_has_a_reason_and_no_other() -> None:
    assert {*seccomp_page.OF_RULES} == {*WITH_RULES} == {*seccomp.RULES}
    assert {*seccomp_page.OF_GROUPS} == {*GROUPS}
    assert {*seccomp_page.OF_ANSWERED} == {*seccomp.ANSWERS.values()}
    assert not {*FREE} & {*WITH_RULES}


# For real

_EACH = """
import ctypes, json, os, sys
from microkernel.worker.confine import seccomp
allowed = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
seccomp.install(seccomp.Filter(seccomp.machine()))
found = {}
for number in [*range(1024), 5000, 1 << 20]:
    if number not in allowed:
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        found[number] = [result, ctypes.get_errno()]
os.write(1, json.dumps(found).encode())
os._exit(0)
"""


def test_a_process_with_the_filter_is_refused_each_call_that_is_not_in_the_tables() -> None:
    machine = seccomp.machine()
    past_filters = {335, 336} if machine == "x86_64" else set()  # uretprobe, uprobe: they kill the calling process
    allowed = [*past_filters]
    allowed += [numbers[machine] for table in (FREE, WITH_RULES) for numbers in table.values() if machine in numbers]
    answers = {ANSWERED[name][machine]: answer for name, answer in seccomp.ANSWERS.items() if machine in ANSWERED[name]}
    done = subprocess.run([sys.executable, "-c", _EACH, json.dumps(allowed)], capture_output=True, text=True)
    found = {int(number): tuple(result) for number, result in json.loads(done.stdout or "{}").items()}
    assert len(found) > 800, done.stderr
    wrong = {number: result for number, result in found.items() if result != (-1, answers.get(number, errno.EPERM))}
    assert wrong == {}
