"""Pool of a host's zygotes: one for each environment that a process takes over only at exec."""

from __future__ import annotations

import threading

from microkernel.hosts.worker.cgroups import Groups
from microkernel.hosts.worker.environment import process_identity, read_at_exec
from microkernel.hosts.worker.zygote import ZygoteHandle
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Reactor


class ZygotePool:
    """The zygotes of one host.

    ``current`` returns the zygote for the program's present environment: what the dynamic loader and the locale read at
    exec, and the process's user. A zygote that is no longer current exits with its last worker.
    """

    def __init__(self, reactor: Reactor, level: Level, python: str, groups: Groups) -> None:
        self._groups = groups
        self._reactor = reactor
        self._level: Level = level
        self._python = python
        # The guest's image, at the level wasm. It is known before the first fork.
        self.image = ""
        self._lock = threading.Lock()
        self._by_key: dict[object, ZygoteHandle] = {}
        self._current: ZygoteHandle | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the current zygote, or None."""
        return self._current.pid if self._current else None

    def use_image(self, image: str) -> None:
        """Have zygotes that start from now on load this image of the guest."""
        self.image = image

    def current(self) -> ZygoteHandle:
        """Return the zygote to fork from. It starts when a worker is first requested."""
        self._groups.open()
        variables = read_at_exec(self._level)
        key = (self.image, tuple(sorted(variables.items())), process_identity())
        with self._lock:
            zygote = self._by_key.get(key)
            if zygote is None:
                zygote = self._by_key[key] = ZygoteHandle(
                    self._reactor, self._level, self._python, self.image, variables, self._groups
                )
            if zygote is not self._current:
                if self._current is not None:
                    self._current.retire(True)
                    zygote.retire(False)
                self._current = zygote
            return zygote

    def close(self) -> None:
        with self._lock:
            zygotes, self._by_key = list(self._by_key.values()), {}
        for zygote in zygotes:
            zygote.close()
