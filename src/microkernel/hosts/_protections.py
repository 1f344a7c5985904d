"""What holds a confined process, read back from the system and from what the process found when it tried its walls."""

from __future__ import annotations

import os
from pathlib import Path

from microkernel.wire.messages import Confined

_FILTERED = "2"
_NONE = "0" * 16


def protections_of(pid: int, confined: Confined) -> dict[str, str]:
    """Empty when it has ended."""
    process = Path("/proc") / str(pid)
    try:
        status = _fields((process / "status").read_text())
        limits = (process / "limits").read_text()
    except OSError:
        return {}
    filtered = status.get("Seccomp") == _FILTERED
    held = {
        "file system": confined.landlock > 0 and "files" not in confined.holes,
        "network": filtered and "network" not in confined.holes,
        "processes": filtered and not {"processes", "signals"} & {*confined.holes},
        "system calls": filtered,
        "capabilities": status.get("NoNewPrivs") == "1" and _has_none(status),
    }
    found = {name: "enforced" if holds else "unavailable" for name, holds in held.items()}
    return {**found, "threads": _threads(status, limits), **_namespaces(pid)}


def _threads_are_counted(status: dict[str, str], limits: str) -> bool:
    """The limit is set, and not for root, whom it does not bind."""
    soft = next((line.split()[2] for line in limits.splitlines() if line.startswith("Max processes")), "unlimited")
    return soft != "unlimited" and status.get("Uid", "0").split()[0] != "0" and int(soft) < _MANY


def threads_over(pid: int, most: int) -> str:
    """What to tell of a process that has more threads than it may, where no limit holds it; else empty."""
    try:
        status = _fields(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return ""
    count = int(status.get("Threads", "0"))
    return f"over its limit: {count:,} threads, limits.threads is {most:,}" if count > most else ""


_MANY = 4096
"""A limit that was not set for one worker is far higher."""


def _threads(status: dict[str, str], limits: str) -> str:
    return "enforced" if _threads_are_counted(status, limits) else "watched"


def _has_none(status: dict[str, str]) -> bool:
    return all(status.get(name) == _NONE for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))


def _namespaces(pid: int) -> dict[str, str]:
    return {f"{name} namespace": _own(pid, name) for name in ("user", "net", "ipc", "uts")}


def _own(pid: int, name: str) -> str:
    try:
        is_ours = os.stat(f"/proc/{pid}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino
    except OSError:
        return "unavailable"
    return "unavailable" if is_ours else "enforced"


def _fields(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
