"""Base of the hosts whose instances run in workers, forked from a zygote of their level."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from math import ceil
from typing import Any

from microkernel.errors import IsolationUnavailable
from microkernel.hosts.procfs.processes import raise_descriptor_limit
from microkernel.hosts.worker.cgroups import Groups
from microkernel.hosts.worker.environment import interpreter_defect
from microkernel.hosts.worker.runner import WorkerRunner
from microkernel.hosts.worker.temp_dirs import TempDirs
from microkernel.hosts.worker.zygote_pool import ZygotePool
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Availability, InstanceEvents, LaunchSpec, MessageSource, Reactor

_LIMITS = ("memory", "files", "file_size", "cpu")


class WorkerHost:
    """Launches workers. A subclass defines the fork request and the runner of its level."""

    level: Level

    def __init__(self, reactor: Reactor, python: str = sys.executable, **_options: object) -> None:
        self._reactor = reactor
        self._python = python
        self._groups = Groups()
        self._zygote_pool = ZygotePool(reactor, self.level, python, self._groups)
        self._temp_dirs = self._make_temp_dirs()
        raise_descriptor_limit()

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote_pool.pid

    def available(self) -> Availability:
        """Check that the zygote starts, which the next launch needs. Waits for it."""
        if defect := self._defect():
            return defect
        try:
            self._zygote_pool.current().ensure()
        except IsolationUnavailable as error:
            return Availability(str(error.fields["reason"]), error)
        return Availability("zygote, pidfd, rlimits")

    def _defect(self) -> Availability | None:
        """Return why no worker can run at any level, as far as that shows without one; None if nothing is found."""
        if not hasattr(os, "pidfd_open"):
            return self._missing("pidfd_open is missing (Linux 5.3 and Python 3.9 have it)")
        if not os.path.isdir("/proc/self/fd"):
            return self._missing("/proc is not mounted, or is that of another PID namespace")
        if self._python == sys.executable and (reason := interpreter_defect()):
            return Availability(reason, IsolationUnavailable("MK0517", level=self.level, reason=reason))
        return None

    def launch(self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents) -> WorkerRunner:
        folder = self._temp_dirs.make(spec.load.name)
        try:
            request = self._request(spec, folder)
            runner = self._make_runner(spec, source, events, folder)
        except BaseException:
            self._temp_dirs.remove(folder)
            raise
        runner.start(self._zygote_pool.current(), request)
        return runner

    def close(self) -> None:
        self._zygote_pool.close()
        self._groups.close()
        self._temp_dirs.close()

    def _make_temp_dirs(self) -> TempDirs:
        return TempDirs()

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        raise NotImplementedError

    def _make_runner(
        self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents, folder: str
    ) -> WorkerRunner:
        return WorkerRunner(spec.load, source, events, self._reactor, self._temp_dirs, folder)

    @staticmethod
    def _limits(requested: Mapping[str, float]) -> dict[str, int]:
        """Return the limits in the system's units, rounded up; 0 for none."""
        return {name: ceil(requested.get(name, 0)) for name in _LIMITS}

    def _missing(self, reason: str) -> Availability:
        return Availability(reason, IsolationUnavailable("MK0501", level=self.level, reason=reason))
