"""How success is seen from outside. Each takes the arena and what came back, and looks for itself."""

from __future__ import annotations

import ctypes
import fnmatch
import gc
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.leftovers import descendants, gone
from tests.security.redteam.model import Answer, Proof

if TYPE_CHECKING:
    from tests.security.redteam.arena import Arena

_MUCH = 200 << 10
"""kB."""
NAMESPACES = ("user", "mnt", "net", "uts", "ipc")


def told(which: str) -> Proof:
    """It has a secret that it can have only from where the arena put it."""
    return lambda arena, answer: arena.secrets()[which] in repr(answer.told)


def told_is(value: Callable[[Arena], Any]) -> Proof:
    """It tells what the arena knows to be so."""
    return lambda arena, answer: answer.told is not None and answer.told == value(arena)


def changed(arena: Arena, _: Answer) -> bool:
    return arena.files.content() != "original"


def made(name: str) -> Proof:
    """Something new in the folder of the kernel's user."""
    return lambda arena, _: os.path.lexists(arena.files.folder / name)


def unlinked(name: str) -> Proof:
    return lambda arena, _: not os.path.lexists(arena.files.folder / name)


def made_in_data(arena: Arena, _: Answer) -> bool:
    """A program left its mark where the plugin may write at every level: what is tried is the program alone."""
    return (arena.data / "ran").exists()


def heard(way: str) -> Proof:
    return lambda arena, _: arena.listeners.heard(way, arena.token)


def victim_died(arena: Arena, _: Answer) -> bool:
    return not arena.victim.is_alive


def victim_changed(arena: Arena, _: Answer) -> bool:
    return arena.victim.memory() != arena.victim.secret


def victim_is(field: str, wanted: Callable[[str], bool]) -> Proof:
    return lambda arena, _: wanted(status(arena.victim.pid, field))


def holds(pattern: str) -> Proof:
    """Its process has a descriptor of this kind."""
    return lambda _, answer: any(fnmatch.fnmatch(link, pattern) for link in links(answer.pid))


def in_other_namespace(kind: str) -> Proof:
    """Than before the attempt."""
    return lambda arena, answer: namespace(answer.pid, kind) not in ("", arena.before["namespaces"][kind])


def kernel_grew(arena: Arena, _: Answer) -> bool:
    """The kernel's process keeps much more memory than before the attempt."""
    return resident() - arena.before["resident"] > _MUCH


def resident() -> int:
    """Of this process, in kB: what it keeps, not what it has used and given up."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(status(os.getpid(), "VmRSS").split()[0])


def its(field: str, wanted: Callable[[str], bool]) -> Proof:
    return lambda _, answer: wanted(status(answer.pid, field))


def more_than(field: str, least: int) -> Proof:
    """A number of ``/proc/<pid>/status``: kB where it is a size."""
    return its(field, lambda text: bool(text) and int(text.split()[0]) > least)


def limit_of_victim(name: str) -> Proof:
    return lambda arena, _: _limit(arena.victim.pid, name) != _limit(os.getpid(), name)


def has_children(least: int) -> Proof:
    return lambda _, answer: answer.pid is not None and len(descendants(answer.pid)) >= least


def many_descriptors(least: int) -> Proof:
    return lambda _, answer: len(links(answer.pid)) > least


def own_file(test: Callable[[os.stat_result], bool]) -> Proof:
    """Of what it made in its own folder."""
    return lambda arena, _: any(test(path.lstat()) for path in arena.data.iterdir())


def is_setuid(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_ISUID)


def emitted(topic: str) -> Proof:
    """The embedding program got this event with the token in it."""
    return lambda arena, _: any(
        name == topic and arena.token in repr(data) for name, source, data in list(arena.events)
    )


def process_died(arena: Arena, answer: Answer) -> bool:
    return answer.pid is not None and gone(answer.pid)


def status(pid: int | None, field: str) -> str:
    """A line of ``/proc/<pid>/status``; empty when there is none."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return lines.get(field, "").strip()


def statistic(pid: int | None, place: int) -> str:
    """A field of ``/proc/<pid>/stat``, counted from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[place]
    except OSError:
        return ""


def links(pid: int | None) -> list[str]:
    try:
        return [_link(f"/proc/{pid}/fd/{entry}") for entry in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def writable_code(pid: int | None) -> int:
    """How many places of its memory can be written and run. Libraries make one for functions that C code calls."""
    try:
        return Path(f"/proc/{pid}/maps").read_text(errors="replace").count(" rwxp ")
    except OSError:
        return 0


def namespace(pid: int | None, kind: str) -> str:
    return _link(f"/proc/{pid}/ns/{kind}")


def _limit(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text(errors="replace").splitlines()
    return next(line for line in lines if line.startswith(name))
