"""The level ``process``, the default: an instance in a separate process. It survives faults, not attacks.

A crash or exit ends only its own process, its memory is separate, and it can always be killed with everything it
started. It may read and write whatever the kernel's user may.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from microkernel.hosts.worker.buffer_server import BufferServer
from microkernel.hosts.worker.direct_link import DirectLink, waiting_page
from microkernel.hosts.worker.environment import visible
from microkernel.hosts.worker.host import WorkerHost
from microkernel.hosts.worker.runner import WorkerRunner
from microkernel.hosts.worker.temp_dirs import TempDirs, modules_of
from microkernel.hosts.worker.zygote import ZygoteHandle
from microkernel.kernel import ports
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import InstanceEvents, LaunchSpec, MessageSource, Reactor
from microkernel.wire.messages import Load


class ProcessRunner(WorkerRunner):
    """Runs an instance in a worker that can map shared buffers."""

    _is_read_natively = True

    def __init__(
        self,
        load: Load,
        source: MessageSource,
        events: InstanceEvents,
        reactor: Reactor,
        temp_dirs: TempDirs,
        folder: str,
    ) -> None:
        # The page that it shares with its worker once there are direct channels.
        self._waiting: memoryview | None = None
        self._buffer_server = BufferServer(reactor, events, self._malformed)
        try:
            super().__init__(load, source, events, reactor, temp_dirs, folder)
        except BaseException:
            self._buffer_server.discard()
            raise

    def start(self, zygote: ZygoteHandle, request: Mapping[str, Any]) -> None:
        try:
            super().start(zygote, request)
        finally:
            self._buffer_server.worker_end.close()

    def direct_link(self, number: int) -> DirectLink | None:
        if self._closed:
            return None
        with ExitStack() as opened:
            try:
                page, waiting = waiting_page() if self._waiting is None else (-1, self._waiting)
                if page >= 0:
                    opened.callback(os.close, page)
                link = DirectLink(waiting)
            except OSError:
                return None
            sent = [link.callee_end.fileno(), *((page,) if page >= 0 else ())]
            if not self._buffer_server.push(number, *sent):
                link.close(cancel=True)
                return None
        self._waiting = waiting
        self._channel.clear_flag(waiting)
        return link

    def join_direct(self, number: int, link: ports.DirectLink) -> bool:
        if self._closed or not isinstance(link, DirectLink):
            return False
        joined = self._buffer_server.push(number, link.caller_end.fileno())
        link.caller_end.close()
        return joined

    def _extra_descriptors(self) -> list[int]:
        return [self._buffer_server.worker_end.fileno()]

    def _start_protocol(self) -> None:
        self._buffer_server.open()
        super()._start_protocol()

    def _close(self) -> None:
        if not self._closed:
            self._buffer_server.close()
        super()._close()
        self._waiting = None  # the kernel keeps some ended instances for a while, but not their page and its descriptor


class ProcessHost(WorkerHost):
    """Launches instances as processes, forked from one zygote."""

    level: Level = "process"

    def _make_runner(
        self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents, folder: str
    ) -> ProcessRunner:
        return ProcessRunner(spec.load, source, events, self._reactor, self._temp_dirs, folder)

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        """Return the fork request: the program's present environment, folder and path.

        Secrets are left out, and ``TMPDIR`` is replaced. Another interpreter keeps its own path.
        """
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
