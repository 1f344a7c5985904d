"""The level ``sandbox``: a process that may do only what was granted, enforced by the operating system."""

from __future__ import annotations

import sys
from typing import Any

from microkernel.errors import IsolationUnavailable
from microkernel.hosts.confined.host import ConfinedHost
from microkernel.hosts.confined.probe import describe, probe
from microkernel.hosts.confined.runner import defect_of
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Availability, Reactor


class SandboxHost(ConfinedHost):
    """Launches instances as confined processes, forked from a separate zygote."""

    level: Level = "sandbox"

    def __init__(self, reactor: Reactor, python: str = sys.executable, **options: Any) -> None:
        super().__init__(reactor, python, **options)
        self._found: Availability | None = None

    def available(self) -> Availability:
        """Try once, with a worker that confines itself and exits. Waits; not on the reactor's thread."""
        if self._found is None:
            self._found = self._defect() or self._try()
        return self._found

    def _try(self) -> Availability:
        try:
            confined = probe(
                self._zygote_pool.current(), self.fork_request("trial", {}, "", self.confinement({}, (), ()))
            )
        except IsolationUnavailable as error:
            return Availability(error.fields["reason"], error)
        reason = defect_of(confined)
        cgroups = self._groups.describe()
        return self._missing(reason) if reason else Availability(describe(confined, cgroups, self._groups.reason))
