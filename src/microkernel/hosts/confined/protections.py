"""Protections of a confined process, as the system reports them and as its own checks found them."""

from __future__ import annotations

from microkernel.hosts.procfs.processes import fields_of
from microkernel.hosts.procfs.reads import read_file, read_link
from microkernel.wire.messages import ConfinementReport

_FILTERED = b"2"
_NONE = b"0" * 16


def protections_of(pid: int, confined: ConfinementReport) -> dict[str, str]:
    """Return the state of each protection; empty if the process has exited."""
    try:
        status = fields_of(pid, "status")
        limits = read_file(pid, "limits").split(b"\n")
    except OSError:
        return {}
    filtered = status.get(b"Seccomp") == _FILTERED
    held = {
        "file system": confined.landlock > 0 and "files" not in confined.failed_checks,
        "network": filtered and "network" not in confined.failed_checks,
        "processes": filtered and not {"processes", "signals"} & {*confined.failed_checks},
        "system calls": filtered,
        "capabilities": status.get(b"NoNewPrivs") == b"1" and _has_no_capabilities(status),
    }
    found = {name: "enforced" if holds else "unavailable" for name, holds in held.items()}
    return {**found, "threads": _threads(status, limits), **_namespaces(pid)}


def _threads_are_counted(status: dict[bytes, bytes], limits: list[bytes]) -> bool:
    """Return whether the limit on threads is set, and the process is not root, for which it does not hold."""
    soft = next((line.split()[2] for line in limits if line.startswith(b"Max processes")), b"unlimited")
    return soft != b"unlimited" and status.get(b"Uid", b"0").split()[0] != b"0" and int(soft) < _SHARED_LIMIT


def threads_over(pid: int, limit: int) -> str:
    """Return what to report of a process with more threads than it may have, where no limit holds it; otherwise
    empty."""
    count = int(_status_of(pid).get(b"Threads", b"0"))
    return f"over its limit: {count:,} threads, limits.threads is {limit:,}" if count > limit else ""


def memory_over(pid: int, limit: int) -> str:
    """Return what to report of a process that uses more memory than it may; otherwise empty.

    The system's limit (``RLIMIT_DATA``) counts writable pages. It does not count pages that were written and then
    protected, shared or swapped memory, nor page tables. These are measured.
    """
    status = _status_of(pid)
    used = sum(int(status[name].split()[0]) * 1024 for name in _MEMORY_FIELDS if name in status)
    return f"over its limit: {used:,} bytes of memory, limits.memory is {limit:,}" if used > limit else ""


def _status_of(pid: int) -> dict[bytes, bytes]:
    """Return the fields of ``status``; empty if the process has exited."""
    try:
        return fields_of(pid, "status")
    except OSError:
        return {}


_MEMORY_FIELDS = (b"RssAnon", b"RssShmem", b"VmSwap", b"VmPTE")
# A limit on processes that was not set for one worker is higher than this.
_SHARED_LIMIT = 4096


def _threads(status: dict[bytes, bytes], limits: list[bytes]) -> str:
    return "enforced" if _threads_are_counted(status, limits) else "watched"


def _has_no_capabilities(status: dict[bytes, bytes]) -> bool:
    return all(status.get(name) == _NONE for name in (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb"))


def _namespaces(pid: int) -> dict[str, str]:
    return {f"{name} namespace": _namespace_state(pid, name) for name in ("user", "net", "ipc", "uts")}


def _namespace_state(pid: int, name: str) -> str:
    try:
        is_ours = read_link(pid, f"ns/{name}") == read_link("self", f"ns/{name}")
    except OSError:
        return "unavailable"
    return "unavailable" if is_ours else "enforced"
