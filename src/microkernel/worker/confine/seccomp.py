"""The filter for system calls, as a program for the kernel's classic BPF machine: created once in the zygote, installed
in each worker.

A call that is not allowed fails with EPERM; a call of another architecture, or x32, kills the process. A rule is a list
of alternatives, each a list of tests of arguments that must all hold. Only the lower half of an argument is tested
where the call takes an ``int``. ``docs/seccomp.md`` is generated from these tables by ``tools/seccomp_page.py``, which
has the reason for each entry.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from typing import NamedTuple

from microkernel.worker.confine.syscall_table import ANSWERED, FREE, MACHINES, WITH_RULES, Machine

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ARCHITECTURES: dict[Machine, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_INSTRUCTION = struct.Struct("=HBBI")
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_WHOLE = 0xFFFFFFFF
_libc = ctypes.CDLL(None, use_errno=True)


class ArgumentTest(NamedTuple):
    """``argument & mask == value``. ``own``: the value is the worker's pid. ``wide``: the upper half must be 0."""

    argument: int
    value: int
    mask: int = _WHOLE
    own: bool = False
    wide: bool = False


Rule = Sequence[Sequence[ArgumentTest]]


def _one_of(argument: int, *values: int) -> Rule:
    return [[ArgumentTest(argument, value)] for value in values]


def _only(argument: int, flags: int) -> Rule:
    """Allow only these flags."""
    return [[ArgumentTest(argument, 0, _WHOLE & ~flags)]]


def _options(of_socket: Sequence[int], of_tcp: Sequence[int]) -> Rule:
    """Allow these socket options. The level is the second argument, the option the third."""
    named = (*((_SOL_SOCKET, name) for name in of_socket), *((_TCP, name) for name in of_tcp))
    return [[ArgumentTest(1, level), ArgumentTest(2, name)] for level, name in named]


_O_TRUNC, _O_ACCMODE, _O_WRONLY, _O_RDWR = 0o1000, 3, 1, 2
_AS_OWNER = 0o6000
_MAP_PRIVATE, _MAP_TYPE, _MAP_ANONYMOUS, _MAP_GROWSDOWN, _MAP_HUGETLB = 0x2, 0xF, 0x20, 0x100, 0x40000
_THREAD = 0x10000 | 0x400 | 0x200  # CLONE_THREAD, CLONE_FILES, CLONE_FS: else each has a table of descriptors
_NAMESPACES = 0x7E020000
# Flags of messages that are allowed; the others are MSG_OOB, MSG_FASTOPEN, MSG_ERRQUEUE, MSG_ZEROCOPY and their like.
_SENT = 0x40 | 0x80 | 0x4000 | 0x8000  # MSG_DONTWAIT, MSG_EOR, MSG_NOSIGNAL, MSG_MORE
_RECEIVED = 0x2 | 0x20 | 0x40 | 0x100 | 0x4000 | 0x40000000  # MSG_PEEK, _TRUNC, _DONTWAIT, _WAITALL, ..., _CMSG_CLOEXEC
_SOL_SOCKET, _TCP = 1, 6
_OWN_PID = ArgumentTest(0, 0, own=True)
_OF_ITSELF: Rule = [[ArgumentTest(0, 0)], [_OWN_PID]]
# The clocks 0 to 11. Any other number names a process, a thread or a device: its processor time, of any user.
_STATIC_CLOCK: Rule = [[ArgumentTest(0, 0, _WHOLE & ~7)], [ArgumentTest(0, 8, _WHOLE & ~3)]]


def _open_flags(flags: int) -> Rule:
    """Allow a file to be truncated only if it is opened for writing, and no set-id mode.

    Before its third version Landlock lets a file be truncated that may only be read. The mode is the next argument: a
    new set-id file would be root's own, for any user that finds it.
    """
    mode = ArgumentTest(flags + 1, 0, _AS_OWNER)
    writing = ([ArgumentTest(flags, how, _O_ACCMODE), mode] for how in (_O_WRONLY, _O_RDWR))
    return [[ArgumentTest(flags, 0, _O_TRUNC), mode], *writing]


RULES: dict[str, Rule] = {
    # First, as each message takes one of these. Descriptors go by sendmsg and sendmmsg alone, which are not here: a
    # filter cannot look into what they send.
    "sendto": [[ArgumentTest(4, 0, wide=True), ArgumentTest(3, 0, _WHOLE & ~_SENT)]],
    "recvfrom": _only(3, _RECEIVED),
    "open": _open_flags(1),
    "openat": _open_flags(2),
    "creat": [[ArgumentTest(1, 0, _AS_OWNER)]],
    # CLOSE_RANGE_UNSHARE makes a table of descriptors for the calling thread.
    "close_range": _only(2, 0x4),
    # FALLOC_FL_KEEP_SIZE alone takes blocks that RLIMIT_FSIZE does not see; with _PUNCH_HOLE it gives them back.
    "fallocate": _one_of(1, 0, 0x3),
    # RENAME_NOREPLACE, _EXCHANGE; not _WHITEOUT, which makes a device
    "renameat2": _only(4, 0x3),
    # Of F_SETOWN, F_SETSIG and O_ASYNC one makes a signal for any other process. Locks of open files (F_OFD_*) have no
    # process, so they could not be counted.
    "fcntl": _one_of(1, 0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032, 1034),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    "ioctl": _one_of(1, 0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
    # Shared anonymous memory, stacks that grow and huge pages are not in RLIMIT_DATA.
    "mmap": [
        [ArgumentTest(3, 0, _MAP_ANONYMOUS | _MAP_GROWSDOWN | _MAP_HUGETLB)],
        [ArgumentTest(3, _MAP_PRIVATE, _MAP_TYPE | _MAP_GROWSDOWN | _MAP_HUGETLB)],
    ],
    # MADV_NORMAL to _DONTNEED, _FREE, _DONTFORK, _DOFORK, _HUGEPAGE to _POPULATE_WRITE, _COLLAPSE. Not _MERGEABLE,
    # which lets a process find out what others have in memory.
    "madvise": _one_of(2, *range(5), 8, 10, 11, *range(14, 24), 25),
    "clone": [[ArgumentTest(0, _THREAD, _THREAD | _NAMESPACES)]],
    "kill": [[_OWN_PID]],
    "tgkill": [[_OWN_PID]],
    # PR_GET_PDEATHSIG, _DUMPABLE, _NAME, _SECCOMP, CAPBSET_READ, _TIMERSLACK, _NO_NEW_PRIVS; PR_SET_NAME, _VMA
    "prctl": _one_of(0, 2, 3, 15, 16, 21, 23, 29, 30, 39, 0x53564D41),
    "prlimit64": [[ArgumentTest(0, 0), ArgumentTest(2, 0, wide=True)], [_OWN_PID, ArgumentTest(2, 0, wide=True)]],
    "sched_setaffinity": [[ArgumentTest(0, 0)]],
    "setpriority": [[ArgumentTest(0, 0), ArgumentTest(1, 0)]],
    # A datagram socket of this family can send to any other by its address.
    "socketpair": [[ArgumentTest(0, 1), ArgumentTest(1, kind, 0xF)] for kind in (1, 5)],
    # SO_REUSEADDR, _SNDBUF, _RCVBUF, _KEEPALIVE, _RCVTIMEO, _SNDTIMEO; TCP_NODELAY, _KEEPIDLE, _KEEPINTVL, _KEEPCNT,
    # _QUICKACK, _USER_TIMEOUT. Not SO_LINGER: whoever closes the last descriptor would wait.
    "setsockopt": _options((2, 7, 8, 9, 20, 21, 66, 67), (1, 4, 5, 6, 12, 18)),
    # These, SO_TYPE, _ERROR, _OOBINLINE, _LINGER, _PEERCRED, _RCVLOWAT, _SNDLOWAT, _ACCEPTCONN, _PROTOCOL, _DOMAIN;
    # TCP_MAXSEG, _INFO. Not SO_PEERPIDFD, a handle of the kernel's process, nor TCP_ZEROCOPY_RECEIVE.
    "getsockopt": _options(
        (2, 3, 4, 7, 8, 9, 10, 13, 17, 18, 19, 20, 21, 30, 38, 39, 66, 67), (1, 2, 4, 5, 6, 11, 12, 18)
    ),
    "recvmsg": _only(2, _RECEIVED),
    "clock_gettime": _STATIC_CLOCK,
    "clock_getres": _STATIC_CLOCK,
    "clock_nanosleep": _STATIC_CLOCK,
    "timer_create": _STATIC_CLOCK,
    "sched_getaffinity": _OF_ITSELF,
    "sched_getparam": _OF_ITSELF,
    "sched_getscheduler": _OF_ITSELF,
    "getpgid": _OF_ITSELF,
    "getsid": _OF_ITSELF,
    "getpriority": [[ArgumentTest(0, 0), ArgumentTest(1, 0)], [ArgumentTest(0, 0), ArgumentTest(1, 0, own=True)]],
}  # fmt: skip
# Errors other than EPERM that a refused call with a rule returns: those of a system that lacks the feature. With EPERM
# for sched_getaffinity, the C library would not find the stack of a thread (pthread_getattr_np), named by its number.
REFUSALS = {"fallocate": errno.EOPNOTSUPP, "sched_getaffinity": errno.ENOSYS}
ANSWERS = {
    name: errno.ENOTSUP if "xattr" in name else errno.ENOSYS  # ENOSYS: libraries use an older call then
    for name in ANSWERED
}


class Filter:
    """A program, with the positions where the worker's pid belongs."""

    def __init__(self, machine: Machine) -> None:
        self._code = bytearray()
        self._pids: list[int] = []
        self._emit_prologue(machine)
        for name, rule in RULES.items():
            if machine in WITH_RULES[name]:
                self._emit_rule(WITH_RULES[name][machine], rule, ERRNO | REFUSALS.get(name, errno.EPERM))
        for numbers in FREE.values():
            if machine in numbers:
                self._emit_answer(numbers[machine], ALLOW)
        for name, numbers in ANSWERED.items():
            if machine in numbers:
                self._emit_answer(numbers[machine], ERRNO | ANSWERS[name])
        self._emit(RETURN, ERRNO | errno.EPERM)

    def for_process(self, pid: int) -> bytes:
        """Return the program for one worker."""
        code = bytearray(self._code)
        for offset in self._pids:
            struct.pack_into("=I", code, offset, pid)
        return bytes(code)

    def _emit_prologue(self, machine: Machine) -> None:
        self._emit(LOAD, _ARCHITECTURE)
        self._emit(EQUAL, _ARCHITECTURES[machine], if_true=1)
        self._emit(RETURN, KILL)
        self._emit(LOAD, _NUMBER)
        if machine == "x86_64":
            self._emit(AT_LEAST, _X32, if_false=1)
            self._emit(RETURN, KILL)

    def _emit_answer(self, number: int, answer: int) -> None:
        self._emit(EQUAL, number, if_false=1)
        self._emit(RETURN, answer)

    def _emit_rule(self, number: int, rule: Rule, refusal: int) -> None:
        length = sum(_length_of(alternative) for alternative in rule) + 1
        self._emit(EQUAL, number, if_false=length)
        for alternative in rule:
            self._emit_alternative(alternative)
        self._emit(RETURN, refusal)

    def _emit_alternative(self, alternative: Sequence[ArgumentTest]) -> None:
        """Allow if all tests hold; otherwise continue after them."""
        left = _length_of(alternative)
        for test in alternative:
            for half in (0, 4) if test.wide else (0,):
                self._emit(LOAD, _ARGUMENTS + 8 * test.argument + half)
                left -= 1
                if test.mask != _WHOLE:
                    self._emit(AND, test.mask)
                    left -= 1
                left -= 1
                if test.own:
                    self._pids.append(len(self._code) + 4)
                self._emit(EQUAL, test.value, if_false=left)
        self._emit(RETURN, ALLOW)

    def _emit(self, code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> None:
        self._code += _INSTRUCTION.pack(code, if_true, if_false, value)


def _length_of(alternative: Sequence[ArgumentTest]) -> int:
    return 1 + sum((2 + (test.mask != _WHOLE)) * (1 + test.wide) for test in alternative)


def machine() -> Machine:
    """Return this machine's architecture. Raises OSError if it has no table."""
    name = platform.machine()
    if name not in MACHINES:
        raise OSError(errno.ENOSYS, f"there is no table of system calls for {name}")
    return name


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def install(filter: Filter) -> None:
    """Install the filter for good in this process, which has one thread. Raises OSError."""
    code = filter.for_process(os.getpid())
    program = _Program(len(code) // _INSTRUCTION.size, code)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
