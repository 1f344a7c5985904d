"""The level ``process``, the default: an instance in a process of its own. It survives faults, not attacks.

Its memory, its crash, its exit are its own, and it can always be killed, with everything it started. It may read and
write what the kernel's user may.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from microkernel.hosts.worker.buffer_server import BufferServer
from microkernel.hosts.worker.environment import visible
from microkernel.hosts.worker.host import WorkerHost
from microkernel.hosts.worker.runner import WorkerRunner
from microkernel.hosts.worker.temp_dirs import TempDirs, modules_of
from microkernel.hosts.worker.zygote import ZygoteHandle
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import InstanceEvents, LaunchSpec, MessageSource, Reactor
from microkernel.wire.messages import Load


class ProcessPlace(WorkerRunner):
    """A worker that is lent memory."""

    def __init__(
        self,
        load: Load,
        source: MessageSource,
        events: InstanceEvents,
        reactor: Reactor,
        scratch: TempDirs,
        folder: str,
    ) -> None:
        self._lender = BufferServer(reactor, events, self._malformed)
        try:
            super().__init__(load, source, events, reactor, scratch, folder)
        except BaseException:
            self._lender.drop()
            raise

    def begin(self, zygote: ZygoteHandle, request: Mapping[str, Any]) -> None:
        try:
            super().begin(zygote, request)
        finally:
            self._lender.theirs.close()

    def _more_descriptors(self) -> list[int]:
        return [self._lender.theirs.fileno()]

    def _begin_talk(self) -> None:
        self._lender.open()
        super()._begin_talk()

    def _close(self) -> None:
        if not self._closed:
            self._lender.close()
        super()._close()


class ProcessHost(WorkerHost):
    """Instances as processes, forked from one zygote."""

    level: Level = "process"

    def _place(self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents, folder: str) -> ProcessPlace:
        return ProcessPlace(spec.load, source, events, self._reactor, self._scratch, folder)

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        """The kernel's own surroundings, as they are now, but for secrets and the folder of temporary files; another
        interpreter has a path of its own."""
        hidden = {os.fsencode(name) for name in spec.hidden_env}
        shown = (os.fsencode(name) for name in visible(os.environ))
        env = {name: os.environb[name] for name in shown if name not in hidden}
        return {
            "name": spec.load.name,
            "env": env | ({b"TMPDIR": os.fsencode(folder)} if folder else {}),
            "cwd": os.fsencode(_folder()),
            "path": [os.fsencode(p or _folder()) for p in sys.path] if self._python == sys.executable else [],
            "limits": self._limits(spec.limits),
            "modules": os.fsencode(modules_of(folder)),
        }


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"
