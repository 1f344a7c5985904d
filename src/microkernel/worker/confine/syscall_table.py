"""System calls by name, with their numbers on x86_64 and aarch64 (``-``: it has no such call)."""

from __future__ import annotations

from typing import Literal

Machine = Literal["x86_64", "aarch64"]
MACHINES: tuple[Machine, ...] = ("x86_64", "aarch64")

_FREE = {
    # Landlock checks the paths. Calls that it does not check (truncate, chmod, chown, utime) are missing.
    "files": """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70,
preadv2 327 286, pwritev2 328 287, close 3 57, lseek 8 62, fstat 5 80, stat 4 -, lstat 6 -,
newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78,
getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, dup 32 23, dup2 33 -, dup3 292 24, pipe 22
-, pipe2 293 59, flock 73 32, fsync 74 82, fdatasync 75 83, ftruncate 77 46, fadvise64 221 223,
readahead 187 213, copy_file_range 326 285, sendfile 40 71, statfs 137 43, fstatfs 138 44, umask 95 166,
mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38,
link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36
""",
    # No memfd and no shared memory: no rlimit counts them.
    "memory": """
mprotect 10 226, munmap 11 215, mremap 25 216, brk 12 214, msync 26 227, membarrier 324 283
""",
    "itself": """
exit 60 93, exit_group 231 94, wait4 61 260, waitid 247 95, set_robust_list 273 99, get_robust_list 274 100, rseq 334
293, set_tid_address 218 96, gettid 186 178, getpid 39 172, getppid 110 173, getpgrp 111 -, getuid 102 174, geteuid
107 175, getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, futex 202 98,
sched_yield 24 124, sched_get_priority_max 146 125, sched_get_priority_min 147 126, getcpu 309 168, getrlimit 97 163,
getrusage 98 165, times 100 153, sysinfo 99 179, uname 63 160, capget 125 90, getrandom 318 278
""",
    "time": """
nanosleep 35 101, gettimeofday 96 169, time 201
-, timer_settime 223 110, timer_gettime 224 108, timer_delete 226 111, timer_getoverrun 225 109,
setitimer 38 103, getitimer 36 102, alarm 37 -, pause 34 -, timerfd_create 283 85, timerfd_settime 286 86,
timerfd_gettime 287 87
""",
    "signals": """
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, restart_syscall 219 128, signalfd 282 -, signalfd4 289 74
""",
    "waiting": """
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd 284 -, eventfd2 290 19
""",
    "sockets": """
shutdown 48 210, getsockname 51 204, getpeername 52 205
""",
}
_WITH_RULES = """
open 2 -, openat 257 56, creat 85 -, close_range 436 436, fallocate 285 47, renameat2 316 276, fcntl 72 25, ioctl 16 29,
mmap 9 222, madvise 28 233, clone 56 220, kill 62 129, tgkill 234 131, prctl 157 167, prlimit64 302 261,
sched_setaffinity 203 122, setpriority 141 140, socketpair 53 199, setsockopt 54 208, getsockopt 55 209, sendto 44 206,
recvfrom 45 207, recvmsg 47 212, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115,
timer_create 222 107, sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120,
getpgid 121 155, getsid 124 156, getpriority 140 141
"""
_ANSWERED = """
clone3 435 435, openat2 437 437, listxattr 194 11, llistxattr 195 12, flistxattr 196 13, getxattr 191 8, lgetxattr 192
9, fgetxattr 193 10, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7
"""


def _read(table: str) -> dict[str, dict[Machine, int]]:
    entries = " ".join(table.splitlines()).split(",")
    calls: dict[str, dict[Machine, int]] = {}
    for name, *numbers in (entry.split() for entry in entries if entry.strip()):
        calls[name] = {machine: int(n) for machine, n in zip(MACHINES, numbers, strict=True) if n != "-"}
    return calls


GROUPS = {group: _read(table) for group, table in _FREE.items()}
# Allowed, whatever their arguments. ``GROUPS`` has them by purpose; ``tools/seccomp_page.py`` gives the reasons.
FREE = {name: numbers for calls in GROUPS.values() for name, numbers in calls.items()}
# Allowed for some arguments.
WITH_RULES = _read(_WITH_RULES)
# Never allowed, but refused with an error for which libraries have an alternative.
ANSWERED = _read(_ANSWERED)
