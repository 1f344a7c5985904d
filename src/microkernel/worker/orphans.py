"""Reap the orphans of a worker: it is a subreaper, so a process whose parent has exited becomes its child.

A worker must not wait for just any child, because the plugin's code wants the exit status of those that it started. So
the pids that Python's own functions for starting a process have returned are recorded and left alone. Another child
that is a zombie in two scans a second apart is an orphan, and reaped. C code that forks by itself is not seen: its
child is safe if it is waited for within a second of its exit.
"""

from __future__ import annotations

import _posixsubprocess
import functools
import os
import posix
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

from microkernel.sdk.runtime.housekeeping import Chores

_PERIOD = 1.0


class OrphanReaper(Chores):
    """Scans while the worker has children. ``wrap`` and the functions that it returns may be called on any thread.

    ``children`` returns the pids of this process's children; ``is_zombie`` raises ChildProcessError for a pid that is
    not a child.
    """

    def __init__(
        self,
        children: Callable[[], Iterable[int]] | None = None,
        is_zombie: Callable[[int], bool] | None = None,
        reap: Callable[[int], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._children = children or own_children
        self._is_zombie = is_zombie or _is_zombie
        self._reap = reap or _reap
        self._clock = clock
        self._process = os.getpid()
        self._recorded: set[int] = set()
        self._starting: list[None] = []
        self._zombies: dict[int, float] = {}
        self._is_armed = False
        self._looking = threading.Lock()

    def wrap(self, start: Callable[..., Any], pid_of: Callable[[Any], int] = int) -> Callable[..., Any]:
        """Return the function, wrapped so that it records the process that it starts."""

        @functools.wraps(start)
        def started(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != self._process:
                return start(*args, **kwargs)  # in a forked child, which reaps what it starts
            self._starting.append(None)  # one C call each, so that threads need no lock here, which a fork would copy
            try:
                result = start(*args, **kwargs)
                if (pid := pid_of(result)) == 0:
                    return result  # the child
                if pid > 0:
                    self._recorded.add(pid)
            finally:
                self._starting.pop()
            self._arm()
            return result

        return started

    def _arm(self) -> None:
        """Schedule a scan in a second, because there are children.

        A plugin that starts processes one after another does not return to its loop meanwhile, so a scan that is due is
        done here.
        """
        self._is_armed = True
        now = self._clock()
        if self.due == inf:
            self.due = now + _PERIOD
            self._on_due()
        elif now >= self.due:
            self.do()

    def do(self) -> None:
        """Scan, and reap what was an orphaned zombie in the scan before. Does nothing while another thread scans."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look(self._clock())
        finally:
            self._looking.release()

    def _look(self, now: float) -> None:
        self._is_armed = False
        for pid in list(self._recorded):
            if not self._is_child(pid):  # it has been waited for; its number may be reused
                self._recorded.discard(pid)
        children = set(self._children())
        zombies = {pid for pid in children if self._is_orphan(pid)}
        self._zombies = {pid: self._zombies.get(pid, now) for pid in zombies}
        for pid, since in list(self._zombies.items()):
            if now - since >= _PERIOD and self._is_orphan(pid):
                self._reap(pid)
                del self._zombies[pid]
                children.discard(pid)
        self.due = now + _PERIOD if children or self._is_armed else inf

    def _is_orphan(self, pid: int) -> bool:
        """Return whether a child is an orphaned zombie. Unknown, so False, while a process is being started, whose pid
        is recorded afterwards."""
        if self._starting or pid in self._recorded:
            return False
        try:
            return self._is_zombie(pid)
        except ChildProcessError:
            return False

    def _is_child(self, pid: int) -> bool:
        try:
            self._is_zombie(pid)
        except ChildProcessError:
            return False
        return True


def own_children() -> Iterator[int]:
    """Yield the children of each thread of this process: the system lists a child with the thread that started it."""
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", "rb") as children:
                pids = children.read()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has exited, and another has its children; or this system keeps no such list
        yield from map(int, pids.split())


def _is_zombie(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # the plugin's code waits for any child, and was faster
        os.waitpid(pid, os.WNOHANG)


def reap_orphans() -> OrphanReaper:
    """Have this process record what it starts from now on, and return the reaper of its orphans."""
    reaper = OrphanReaper()
    for name in ("fork", "posix_spawn", "posix_spawnp"):
        _replace(name, reaper.wrap(getattr(os, name)), os, posix)
    _replace("forkpty", reaper.wrap(os.forkpty, _pid_of_forkpty), os, posix)
    _replace("system", reaper.wrap(os.system, _no_pid), os, posix)
    fork_exec = reaper.wrap(_posixsubprocess.fork_exec)
    _replace("fork_exec", fork_exec, _posixsubprocess)
    _replace("_fork_exec", fork_exec, subprocess)
    return reaper


def _pid_of_forkpty(result: tuple[int, int]) -> int:
    return result[0]


def _no_pid(_status: int) -> int:
    """Return -1: ``os.system`` waits for its child itself."""
    return -1


def _replace(name: str, function: Callable[..., Any], *modules: object) -> None:
    for module in modules:
        setattr(module, name, function)
