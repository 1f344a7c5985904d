"""The level ``sandbox``: a process that may do only what was granted, held to it by the system.

Its worker walls itself in before it is told of its plugin (``worker/sandbox.py``), and says what it has. Only then is
the plugin's source sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from microkernel.errors import IsolationUnavailable
from microkernel.hosts._places import GIVEN, OF_SYSTEM
from microkernel.hosts._sandbox_place import SandboxPlace, fault_of
from microkernel.hosts._scratch import Scratch
from microkernel.hosts._trial import in_words, trial
from microkernel.hosts._watch import Watch
from microkernel.hosts._worker_host import LIMITS, WorkerHost
from microkernel.hosts._worker_place import WorkerPlace
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Availability, Feed, LaunchSpec, Reactor, Uplink

MiB = 1 << 20
DEFAULTS: dict[str, float] = {
    "memory": 512 * MiB, "files": 256, "file_size": 64 * MiB, "threads": 64, "disk": 1024 * MiB, "frames": 250_000,
}  # fmt: skip
"""Where neither manifest nor operator set a limit."""
_VARIABLES = ("PATH", "LANG", "TZ")


class SandboxHost(WorkerHost):
    """Instances as confined processes, forked from a zygote of their own."""

    level: Level = "sandbox"

    def __init__(self, reactor: Reactor, python: str = sys.executable, **options: object) -> None:
        super().__init__(reactor, python, **options)
        self._found: Availability | None = None
        self._watch = Watch()

    def available(self) -> Availability:
        """Tried once, with a worker that walls itself in and ends. Waits; not on the reactor's thread."""
        if self._found is None:
            self._found = super().available() if not hasattr(os, "pidfd_open") else self._try()
        return self._found

    def _try(self) -> Availability:
        try:
            confined = trial(self._zygote, self._wanted("trial", {}, "", self._walls({}, (), ())))
        except IsolationUnavailable as error:
            return Availability(error.fields["reason"], error)
        reason = fault_of(confined)
        return self._missing(reason) if reason else Availability(in_words(confined))

    def _make_scratch(self) -> Scratch:
        """C code that asks with ``access`` asks for the real user, which a worker of root's has lost; not the group."""
        return Scratch(0o770 if os.geteuid() == 0 else 0o700)

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        load, may = spec.load, spec.permissions
        Path(load.data_dir).mkdir(parents=True, exist_ok=True)
        limits = limits_of(spec.limits)
        read = [spec.source, *map(_absolute, may.fs_read)]
        write = [load.data_dir, *([folder] if folder else []), *map(_absolute, may.fs_write)]
        environment = {name: os.environ[name] for name in (*_VARIABLES, *may.env) if name in os.environ}
        if folder:
            environment["TMPDIR"] = folder
        walls = self._walls(limits, read, write, [*map(_absolute, (*may.fs_read, *may.fs_write))])
        walls["net"] = bool(may.net)
        return self._wanted(load.name, environment, load.data_dir, walls, limits)

    def _wanted(
        self,
        name: str,
        environment: Mapping[str, str],
        folder: str,
        walls: Mapping[str, Any],
        limits: Mapping[str, float] = DEFAULTS,
    ) -> dict[str, Any]:
        """The interpreter's own path: the zygote's."""
        return {
            "name": name,
            "env": {os.fsencode(key): os.fsencode(value) for key, value in environment.items()},
            "cwd": os.fsencode(folder or "/"),
            "path": [],
            "limits": {limit: limits.get(limit, 0) for limit in LIMITS},
            "confine": walls,
        }

    def _walls(
        self, limits: Mapping[str, float], read: Iterable[str], write: Iterable[str], granted: Iterable[str] = ()
    ) -> dict[str, Any]:
        return {
            "read": [*map(os.fsencode, (*OF_SYSTEM, *read))],
            "write": [*map(os.fsencode, (*GIVEN, *write))],
            "granted": [*map(os.fsencode, granted)],
            "threads": int(limits.get("threads", DEFAULTS["threads"])),
        }

    def _place(self, spec: LaunchSpec, feed: Feed, uplink: Uplink, folder: str) -> WorkerPlace:
        spec = replace(spec, limits=limits_of(spec.limits))
        may = spec.permissions
        is_open = "/" in map(_absolute, (*may.fs_read, *may.fs_write))
        return SandboxPlace(spec, feed, uplink, self._reactor, self._scratch, folder, self._watch, is_open)

    def close(self) -> None:
        super().close()
        self._watch.close()


def limits_of(wanted: Mapping[str, float]) -> dict[str, float]:
    """With this level's own where none is set."""
    return {name: value or DEFAULTS.get(name, 0) for name, value in wanted.items()}


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
