"""The kinds of fault: to whom each can be done, how often, and how."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from microkernel.errors import KernelError, PluginDied, ReloadFailed
from tests.chaos.plugins import Role, address
from tests.chaos.processes import zygotes

if TYPE_CHECKING:
    from tests.chaos.arena import Arena

Strike = Callable[["Arena", Role, Random], object]
BOTH = ("thread", "process")
PROCESS = ("process",)
POISON = 99
"""Deliveries for which an event does its harm: always."""
FRAMES = ("00", "ffffffffdd00000001", "00000006dd00000001c1c1", "00000005ddffffffff", "0000000add0000000193a3")


@dataclass(frozen=True, slots=True)
class Fault:
    """``weight``: how often, beside the others."""

    kind: str
    levels: tuple[str, ...]
    weight: int
    strike: Strike
    for_frail: bool = False

    def fits(self, role: Role) -> bool:
        return role.kind.struck and role.level in self.levels and role.kind.frail == self.for_frail


# By events: the plugin does it to itself


def deed(do: str, arena: Arena, role: Role, rng: Random) -> None:
    """Once, so that it is handled in the end; or at every delivery, so that it ends as a dead letter."""
    arena.emit(role.address, do=do, times=rng.choice([1, 1, POISON]))


def corrupt(arena: Arena, role: Role, rng: Random) -> None:
    """Down, up, or on a reply lane."""
    frame = rng.choice([*FRAMES, rng.randbytes(40).hex()])
    arena.emit(role.address, do="frames", channel=rng.randint(3, 8), frame=frame)


def flood(arena: Arena, role: Role, rng: Random) -> None:
    """More than there is room for, while it is asleep."""
    arena.emit(role.address, do="nap", seconds=0.4)
    for _ in range(rng.randint(200, 500)):
        arena.emit(role.address)


def flood_by_plugin(arena: Arena, role: Role, rng: Random) -> None:
    target = rng.choice([each for each in arena.roles.values() if each.kind.listens])
    arena.emit(target.address, do="nap", seconds=0.4)
    arena.emit(role.address, do="flood", topic=address(target.name), count=rng.randint(100, 500))


# By signals


@contextmanager
def worker(arena: Arena, role: Role) -> Iterator[tuple[int, int]]:
    """A handle on its process, and its generation: (-1, 0) if it has none just now."""
    info = arena.kernel.info(role.name)
    handle = _open(info.pid)
    try:
        is_it = handle >= 0 and arena.kernel.info(role.name).pid == info.pid  # its number is no other process's by now
        yield (handle, info.generation) if is_it else (-1, 0)
    finally:
        if handle >= 0:
            os.close(handle)


def _open(pid: int | None) -> int:
    try:
        return os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return -1


def _send(handle: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, OSError):
        return False
    return True


def send(number: int, arena: Arena, role: Role, rng: Random) -> None:
    with worker(arena, role) as (handle, _):
        _send(handle, number)


def stop_for_a_while(arena: Arena, role: Role, rng: Random) -> None:
    with worker(arena, role) as (handle, generation):
        since = time.monotonic()
        if _send(handle, signal.SIGSTOP):
            arena.pause(rng.uniform(0.1, 2.5))
            _send(handle, signal.SIGCONT)
            arena.evidence.tell("stopped", role.name, generation, since)


def pull_zygote(arena: Arena, role: Role, rng: Random) -> None:
    for pid in zygotes():
        os.kill(pid, signal.SIGKILL)


# By hand


def kill(arena: Arena, role: Role, rng: Random) -> None:
    with arena.by_hand(role, certainly=True):
        first = arena.kernel.info(role.name).generation
        since = time.monotonic()
        arena.kernel.kill(role.name)
        for generation in range(first, arena.kernel.info(role.name).generation + 1):
            arena.cut(role.name, generation, since)


def stop(arena: Arena, role: Role, rng: Random) -> None:
    with arena.by_hand(role, certainly=True):
        arena.kernel.stop(role.name)


def spend(arena: Arena, role: Role, rng: Random) -> None:
    """Death after death, until its budget is spent; then it is given another. Not left halfway when time is over: its
    caller hears of a death before the kernel has dealt with it, and would take for active what is to be set aside."""
    with arena.by_hand(role):
        while arena.kernel.info(role.name).state != "quarantined":
            try:
                arena.kernel.call(f"{role.name}.work", "spend", do="exit", timeout=2.0)
            except PluginDied:
                continue
            except KernelError:
                arena.pause(0.05)


# By reloads


def reload(edit: Callable[[str], str], arena: Arena, role: Role, rng: Random) -> None:
    """With a changed source, which is put right again afterwards."""
    path = arena.path(role)
    with arena.by_hand(role):
        try:
            _write(path, edit(arena.source(role)))
            arena.kernel.reload(role.name)
        except ReloadFailed:
            arena.count("reloads refused")
        except KernelError:
            arena.count("reloads failed")
        else:
            arena.count("reloads done")
        finally:
            _write(path, arena.source(role))


def _write(path: str, text: str) -> None:
    """At once: another reload may be reading it."""
    temporary = f"{path}.{time.monotonic_ns()}"
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def _good(source: str) -> str:
    return source + "\n# edited\n"


def _broken(source: str) -> str:
    return source + "\ndef (:\n"


def _raising(method: str) -> Callable[[str], str]:
    return lambda source: f"{source}\nPlugin.{method} = lambda *_: 1 / 0\n"


def _dying(source: str) -> str:
    return f"{source}\nimport sys\nPlugin.start = lambda _: sys.exit(7)\n"


FAULTS = (
    Fault("SIGKILL", PROCESS, 8, partial(send, signal.SIGKILL)),
    Fault("SIGSEGV", PROCESS, 6, partial(send, signal.SIGSEGV)),
    Fault("SIGSTOP", PROCESS, 6, stop_for_a_while),
    Fault("segfault in a handler", PROCESS, 4, partial(deed, "segfault")),
    Fault("os._exit in a handler", PROCESS, 4, partial(deed, "_exit")),
    Fault("sleeps for ever", PROCESS, 3, partial(deed, "sleep")),
    Fault("memory exhausted", PROCESS, 3, partial(deed, "memory")),
    Fault("descriptors filled", PROCESS, 3, partial(deed, "descriptors")),
    Fault("frames corrupted", PROCESS, 6, corrupt),
    Fault("zygote pulled", PROCESS, 2, pull_zygote),
    Fault("spins for ever", BOTH, 5, partial(deed, "hang")),
    Fault("raises", BOTH, 8, partial(deed, "raise")),
    Fault("sys.exit in a handler", BOTH, 6, partial(deed, "exit")),
    Fault("mailbox flooded", BOTH, 6, flood),
    Fault("flooded by a plugin", BOTH, 4, flood_by_plugin),
    Fault("killed by hand", BOTH, 5, kill),
    Fault("stopped by hand", BOTH, 4, stop),
    Fault("budget spent", BOTH, 4, spend, for_frail=True),
    Fault("reload, good", BOTH, 8, partial(reload, _good)),
    Fault("reload, no Python", BOTH, 3, partial(reload, _broken)),
    Fault("reload, __init__ raises", BOTH, 3, partial(reload, _raising("__init__"))),
    Fault("reload, start raises", BOTH, 4, partial(reload, _raising("start"))),
    Fault("reload, dies in start", BOTH, 4, partial(reload, _dying)),
)
