"""State of a process as the system reports it: memory, processor time, limits, stacks."""

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

from microkernel.hosts.procfs.reads import read_file, stat_fields

# Name of the memory file that a worker's fault handler writes stacks to.
STACKS = "stacks"
# Signal at which the fault handler writes.
STACKS_SIGNAL = signal.SIGRTMAX - 1
_STACK_TIMEOUT = 0.3
_POLL_SECONDS = 0.005
_MAX_STACK = 64 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")
# The kernel functions, since Linux 5.x, in which a process waits at a socket or in a poll.
_IDLE_CHANNELS = (
    b"__skb_wait_for_more_packets", b"unix_", b"do_epoll_wait", b"ep_poll", b"poll_schedule_timeout", b"do_sys_poll",
    b"do_select",
)  # fmt: skip
# Kilobytes of page tables, which map 4 GiB: reading them takes some 20 ms.
_MAX_PAGE_TABLES = 8 * 1024
_UNLIMITED = "unlimited"
_LIMITS = {"Max data size": "memory", "Max open files": "files", "Max file size": "file_size", "Max cpu time": "cpu"}


def statistics_of(pid: int, limited: Collection[str]) -> Mapping[str, Any]:
    """Return private memory in bytes, CPU seconds and the protections in force; empty if the process has exited.

    ``limited``: the limits that were set for this process. One that merely holds for the whole system protects nothing.
    """
    try:
        fields = stat_fields(pid)
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
    """Return the bytes that the process shares with no other. Raises OSError.

    To count them the system visits every page, even a billion that map one page of zeroes. A process with page tables
    that large is measured less precisely, and memory shared with its zygote counts.
    """
    status = fields_of(pid, "status")
    if _kilobytes(status, b"VmPTE") > _MAX_PAGE_TABLES:
        return 1024 * sum(_kilobytes(status, name) for name in (b"RssAnon", b"RssShmem"))
    lines = read_file(pid, "smaps_rollup", may_wait=True).splitlines()[1:]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Private_"))


def _kilobytes(status: Mapping[bytes, bytes], name: bytes) -> int:
    return int(status.get(name, b"0").split()[0])


def lines_of(pid: int, file: str) -> Iterator[bytes]:
    r"""Yield the lines of a long file of ``/proc``, without line ends, as they are read. Yields none if the process has
    exited.

    They are bytes, separated by ``\n`` alone, because a process chooses its own name and those of its threads and
    files.
    """
    with suppress(OSError), open(f"/proc/{pid}/{file}", "rb") as lines:
        for line in lines:
            yield line.removesuffix(b"\n")


def fields_of(pid: int, file: str) -> dict[bytes, bytes]:
    """Return the fields of a file of ``name: value`` lines. Raises OSError if the process has exited."""
    lines = (line.partition(b":") for line in read_file(pid, file).split(b"\n"))
    return {name: value.strip() for name, _, value in lines}


def tasks_of(pid: int) -> list[str]:
    """Return the ids of a process's threads; none if it has exited."""
    with suppress(OSError):
        return os.listdir(f"/proc/{pid}/task")
    return []


def _protections(limits: list[str], limited: Collection[str]) -> dict[str, str]:
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits}
    holds = {limit: limit in limited and soft.get(name, _UNLIMITED) != _UNLIMITED for name, limit in _LIMITS.items()}
    return {limit.replace("_", " "): "enforced" if it_holds else "unavailable" for limit, it_holds in holds.items()}


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one.

    A plugin takes a few descriptors; the soft limit is meant for programs that use ``select``, which the kernel does
    not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):  # forbidden on some systems: fewer plugins fit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_alive(handle: int) -> bool:
    """Return whether the process of a pidfd is still running."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return not poll.poll(0)


def is_stopped(pid: int) -> bool:
    """Return whether the process is stopped by SIGSTOP or a debugger."""
    return _state_of(pid) in ("T", "t")


def is_waiting(pid: int) -> bool:
    """Return whether its main thread waits at a socket or in a poll, by the kernel function it is in.

    False for ``sleep`` and locks, and where the system does not tell.
    """
    try:
        return read_file(pid, "wchan").startswith(_IDLE_CHANNELS)
    except OSError:
        return False


def _state_of(pid: int) -> str:
    """Return the system's letter for the state of a process; empty if it has exited."""
    try:
        return stat_fields(pid)[0].decode()
    except OSError:
        return ""


def stack_of(pid: int, send: Callable[[int], object]) -> str:
    """Return the stacks of a worker's threads: ``send`` sends the signal at which its fault handler, in C, writes them
    to a memory file.

    Waits up to ``_STACK_TIMEOUT``; empty if the worker blocks all signals, or has closed the file.
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
    """Return what was written after ``start``, once no more is added."""
    until, size = time.monotonic() + _STACK_TIMEOUT, start
    while time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        now = stacks.seek(0, os.SEEK_END)
        if now == size > start:
            break
        size = now
    stacks.seek(start)
    return stacks.read(_MAX_STACK).decode(errors="replace")
