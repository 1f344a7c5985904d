"""What the system knows of a process: its memory, its time, its limits, where it is."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from microkernel.hosts.procfs.reads import read_file

STACKS = "stacks"
"""The file in memory that a worker's fault handler writes to, and the signal at which it does."""
STACKS_SIGNAL = signal.SIGRTMAX - 1
_STACK_TIMEOUT = 0.3
_POLL_SECONDS = 0.005
_MAX_STACK = 64 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_CHANNELS = (
    b"__skb_wait_for_more_packets", b"unix_", b"do_epoll_wait", b"ep_poll", b"poll_schedule_timeout", b"do_sys_poll",
    b"do_select",
)  # fmt: skip
"""What Linux calls the places, since 5.x."""
_MAX_PAGE_TABLES = 8 * 1024
"""Kilobytes of page tables, which map 4 GiB: looking at them takes some 20 ms."""
_UNLIMITED = "unlimited"
_LIMITS = {"Max data size": "memory", "Max open files": "files", "Max file size": "file_size", "Max cpu time": "cpu"}


def statistics_of(pid: int, limited: Collection[str]) -> Mapping[str, Any]:
    """Memory of its own in bytes, cpu seconds, and the protections as the system has them; empty when it has ended.
    ``limited``: the limits that somebody set for it. One that it only shares with all of this system protects nobody.
    """
    try:
        fields = read_file(pid, "stat").rpartition(b")")[2].split()
        memory = _own_memory(pid)
        limits = read_file(pid, "limits").decode(errors="replace").splitlines()[1:]
    except OSError:
        return {}
    return {
        "memory": memory,
        "cpu": (int(fields[11]) + int(fields[12])) / _TICKS,
        "protections": {"hard kill": "enforced", **_protections(limits, limited), "network": "unavailable"},
    }


def _own_memory(pid: int) -> int:
    """Bytes that no other process shares. Raises OSError.

    To know them the system looks at every page, also at a billion that are one page of zeroes: a process whose tables
    of pages are that large is not looked at so closely, and what it shares with its zygote counts.
    """
    status = fields_of(pid, "status")
    if _kilobytes(status, b"VmPTE") > _MAX_PAGE_TABLES:
        return 1024 * sum(_kilobytes(status, name) for name in (b"RssAnon", b"RssShmem"))
    lines = read_file(pid, "smaps_rollup", may_wait=True).splitlines()[1:]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Private_"))


def _kilobytes(status: Mapping[bytes, bytes], name: bytes) -> int:
    return int(status.get(name, b"0").split()[0])


def lines_of(pid: int, file: str) -> Iterator[bytes]:
    """The lines of a long file of ``/proc``, without their ends, as they are read. None if the process has ended.

    Bytes, and separated by ``\\n`` alone: a process chooses its own name and those of its threads and files.
    """
    with suppress(OSError), open(f"/proc/{pid}/{file}", "rb") as lines:
        for line in lines:
            yield line.removesuffix(b"\n")


def fields_of(pid: int, file: str) -> dict[bytes, bytes]:
    """A file of ``name: value`` lines. Raises OSError if the process has ended."""
    lines = (line.partition(b":") for line in read_file(pid, file).split(b"\n"))
    return {name: value.strip() for name, _, value in lines}


def tasks_of(pid: int) -> list[str]:
    """The ids of a process's threads; none if it has ended."""
    with suppress(OSError):
        return os.listdir(f"/proc/{pid}/task")
    return []


def _protections(limits: list[str], limited: Collection[str]) -> dict[str, str]:
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits}
    holds = {limit: limit in limited and soft.get(name, _UNLIMITED) != _UNLIMITED for name, limit in _LIMITS.items()}
    return {limit.replace("_", " "): "enforced" if it_holds else "unavailable" for limit, it_holds in holds.items()}


def raise_descriptor_limit() -> None:
    """A plugin takes a few descriptors; the soft limit is meant for programs that ``select``, which we do not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):  # a system may forbid it: then fewer plugins fit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_alive(handle: int) -> bool:
    """Whether the process of a pidfd has not ended."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return not poll.poll(0)


def is_stopped(pid: int) -> bool:
    """Whether it is held back by SIGSTOP or a debugger."""
    return _state_of(pid) in ("T", "t")


def is_waiting(pid: int) -> bool:
    """Whether its main thread sleeps at a socket or in a poll, by what the system calls the place; not in ``sleep`` or
    at a lock. False where it does not say."""
    try:
        return read_file(pid, "wchan").startswith(_IDLE_CHANNELS)
    except OSError:
        return False


def _state_of(pid: int) -> str:
    """The system's letter; none when it has ended."""
    try:
        return read_file(pid, "stat").rpartition(b")")[2].split(None, 1)[0].decode()
    except OSError:
        return ""


def stack_of(pid: int, send: Callable[[int], object]) -> str:
    """Where the threads of a worker are: at this signal its fault handler, in C, writes it into a file in memory.

    Waits up to ``_STACK_TIMEOUT``; empty for one that blocks all signals, or has closed the file.
    """
    try:
        with open(_stacks_of(pid), "rb") as stacks:
            before = stacks.seek(0, os.SEEK_END)
            send(STACKS_SIGNAL)
            return _read_settled(stacks, before)
    except OSError:
        return ""


def _stacks_of(pid: int) -> str:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(entry).startswith(f"/memfd:{STACKS}"):
            return str(entry)
    raise FileNotFoundError(STACKS)


def _read_settled(stacks: BinaryIO, start: int) -> str:
    """What has been written since ``start``, when no more of it comes."""
    until, size = time.monotonic() + _STACK_TIMEOUT, start
    while time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        now = stacks.seek(0, os.SEEK_END)
        if now == size > start:
            break
        size = now
    stacks.seek(start)
    return stacks.read(_MAX_STACK).decode(errors="replace")
