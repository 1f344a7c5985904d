"""The level ``process``, the default: an instance in a process of its own. It survives faults, not attacks.

Its memory, its crash, its exit are its own, and it can always be killed, with everything it started. It may read and
write what the kernel's user may.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from microkernel.hosts._worker_host import WorkerHost
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import LaunchSpec


class ProcessHost(WorkerHost):
    """Instances as processes, forked from one zygote."""

    level: Level = "process"

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        """The kernel's own surroundings, as they are now, but for secrets and the folder of temporary files; another
        interpreter has a path of its own."""
        hidden = {os.fsencode(name) for name in spec.hidden}
        env = {name: value for name, value in os.environb.items() if name not in hidden}
        return {
            "name": spec.load.name,
            "env": env | ({b"TMPDIR": os.fsencode(folder)} if folder else {}),
            "cwd": os.fsencode(_folder()),
            "path": [os.fsencode(p or _folder()) for p in sys.path] if self._python == sys.executable else [],
            "limits": self._limits(spec.limits),
        }


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
