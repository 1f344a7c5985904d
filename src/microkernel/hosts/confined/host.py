"""Base of the hosts whose workers are confined: which paths stay accessible, limits, environment.

A worker confines itself (``worker/confine/sandbox.py``) and reports its protections; only then is the plugin's source
sent.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from microkernel.errors import PluginLoadError, shortage_in
from microkernel.hosts.confined.runner import ConfinedRunner
from microkernel.hosts.confined.safe_paths import resolve_without_links
from microkernel.hosts.confined.system_paths import READABLE, WRITABLE
from microkernel.hosts.confined.usage_monitor import UsageMonitor
from microkernel.hosts.worker.environment import visible
from microkernel.hosts.worker.host import WorkerHost
from microkernel.hosts.worker.runner import WorkerRunner
from microkernel.hosts.worker.temp_dirs import TempDirs
from microkernel.hosts.worker.time_share import TimeShares
from microkernel.kernel.manifest import CONFINED_LIMITS
from microkernel.kernel.ports import InstanceEvents, LaunchSpec, MessageSource, Reactor
from microkernel.wire.data_folder import claim_around, close_to_others
from microkernel.wire.folders import PRIVATE, make_private

MiB = 1 << 20
DEFAULTS = CONFINED_LIMITS
# As for temporary folders: a worker started by root no longer has the real user that ``access`` checks.
_MODE_AS_ROOT = 0o770
_NO_HOME = "this user has no home folder; set HOME or XDG_STATE_HOME, or name a data_dir"
_VARIABLES = ("PATH", "LANG", "TZ")
_POOL_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS", "ARROW_IO_THREADS", "GOMAXPROCS", "JULIA_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
# Assumed number of libraries with thread pools; together they have to stay below `limits.threads`.
_POOLS = 8
# Reports a message to people: its id, the plugin it is about, the fields of its text.
Announce = Callable[[str, str, dict[str, Any]], object]


def _no_announcement(_id: str, _plugin: str, _fields: dict[str, Any]) -> None: ...


class ConfinedHost(WorkerHost):
    """Launches confined workers.

    ``require_all_layers``: no plugin runs if a layer of confinement is missing. ``overhead``: bytes of memory that a
    worker may use in addition to its plugin's limit.
    """

    require_all_layers = True
    overhead = 0

    def __init__(
        self, reactor: Reactor, python: str = sys.executable, announce: Announce = _no_announcement, **options: object
    ) -> None:
        super().__init__(reactor, python, **options)
        self._announce = announce
        self._usage_monitor = UsageMonitor(self._monitor_failed)
        self._time_shares = TimeShares()

    def _make_temp_dirs(self) -> TempDirs:
        """Grant access by group if root runs the kernel: C code that uses ``access`` checks the real user, which a
        worker of root has lost, but not the group."""
        return TempDirs(0o770 if os.geteuid() == 0 else 0o700)

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        load, permissions = spec.load, spec.permissions
        if not load.data_dir:
            raise PluginLoadError("MK0129", path=load.name, reason=_NO_HOME)
        try:
            claim_around(load.data_dir, load.project, os.path.join(load.root, load.entry))
            load.project = ""  # done here; the worker cannot see the folder around its own
            _make_data_folder(Path(load.data_dir))
            close_to_others(load.data_dir)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            failure = PluginLoadError("MK0129", path=load.data_dir, reason=reason)
            failure.shortage = shortage_in(error)
            raise failure from None
        limits = limits_of(spec.limits)
        resolved = resolve_paths(spec)
        read = [path_on_disk(spec.source), *(resolved[path] or path for path in map(absolute, permissions.fs_read))]
        writable = [resolved[path] or path for path in map(absolute, permissions.fs_write)]
        write = [load.data_dir, *([folder] if folder else []), *writable]
        environment = environment_of(spec, folder, limits)
        confinement = self.confinement(limits, read, write, [real or path for path, real in resolved.items()])
        confinement["net"] = bool(permissions.net)
        confinement["files"] = self.level == "sandbox"
        return self.fork_request(load.name, environment, load.data_dir, confinement, limits)

    def fork_request(
        self,
        name: str,
        environment: Mapping[str, str],
        folder: str,
        confinement: Mapping[str, Any],
        limits: Mapping[str, float] = DEFAULTS,
    ) -> dict[str, Any]:
        """Return a request to fork a confined worker. The interpreter's path is the zygote's."""
        return {
            "name": name,
            "env": {os.fsencode(key): os.fsencode(value) for key, value in environment.items()},
            "cwd": os.fsencode(folder or "/"),
            "path": [],
            "limits": self._limits(limits),
            "confine": confinement,
        }

    def confinement(
        self, limits: Mapping[str, float], read: Iterable[str], write: Iterable[str], granted: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return what the worker has to confine itself to."""
        return {
            "read": [*map(os.fsencode, (*READABLE, *read))],
            "write": [*map(os.fsencode, (*WRITABLE, *write))],
            "granted": [*map(os.fsencode, granted)],
            "threads": int(limits.get("threads", DEFAULTS["threads"])),
        }

    def _make_runner(
        self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents, folder: str
    ) -> WorkerRunner:
        spec = replace(spec, limits=limits_of(spec.limits))
        permissions = spec.permissions
        is_open = "/" in map(absolute, (*permissions.fs_read, *permissions.fs_write))
        shared = (self._reactor, self._temp_dirs, folder, self._usage_monitor, self.level)
        decided = (is_open, self.require_all_layers, self.overhead, self._time_shares, self.report_unopened)
        return ConfinedRunner(spec, source, events, *shared, *decided)

    def report_unopened(self, plugin: str, path: str, reason: str) -> None:
        """Report that something that was granted stays closed."""
        self._announce("MK0418", plugin, {"path": path, "reason": reason})

    def _monitor_failed(self, error: Exception) -> None:
        self._announce("MK0514", "", {"reason": f"{type(error).__name__}: {error}"})

    def close(self) -> None:
        super().close()
        self._usage_monitor.close()


def environment_of(spec: LaunchSpec, folder: str, limits: Mapping[str, float]) -> dict[str, str]:
    """Return the environment of a confined plugin.

    A granted variable takes precedence over the level's own, except ``TMPDIR``: a temporary folder elsewhere would be
    inaccessible.
    """
    shown = [name for name in visible((*_VARIABLES, *spec.permissions.env)) if name not in spec.hidden_env]
    granted = {name: os.environ[name] for name in shown}
    return {**identity_of(spec), **pool_sizes(limits), **granted, **({"TMPDIR": folder} if folder else {})}


def identity_of(spec: LaunchSpec) -> dict[str, str]:
    """Return what ``Path.home()`` and ``getpass.getuser()`` use. Without it they would read ``/etc/passwd``."""
    return {"HOME": spec.load.data_dir, "USER": spec.load.name, "LOGNAME": spec.load.name}


def pool_sizes(limits: Mapping[str, float]) -> dict[str, str]:
    """Return the variables that set the size of native libraries' thread pools.

    By default they start one thread per processor, and each takes memory for its stack, so that a large machine exceeds
    both limits.
    """
    size = max(1, int(limits.get("threads") or DEFAULTS["threads"]) // _POOLS)
    return dict.fromkeys(_POOL_VARIABLES, str(min(size, len(os.sched_getaffinity(0)))))


def _make_data_folder(folder: Path) -> None:
    """Create the data folder. Raises OSError."""
    if os.geteuid() != 0:
        make_private(folder)
        return
    make_private(folder, _MODE_AS_ROOT)
    for ours in (folder.parent, folder.parent.parent)[: 2 if folder.parent.parent.name == "microkernel" else 1]:
        mode = stat.S_IMODE(ours.stat().st_mode)
        if mode == PRIVATE:  # created by a plugin at another level
            ours.chmod(mode | stat.S_IXGRP)
    if stat.S_IMODE(folder.stat().st_mode) == PRIVATE:
        folder.chmod(_MODE_AS_ROOT)


def path_on_disk(source: str) -> str:
    """Return the plugin's file or folder; for one in an archive, the archive."""
    above = source
    while above and not os.path.lexists(above):
        above = os.path.dirname(above)
    return above if os.path.isfile(above) else source


def resolve_paths(spec: LaunchSpec) -> dict[str, str]:
    """Return the granted paths, each with the path without links; empty where a plugin may have made one of the links.

    Such a path is passed on as it is: the worker opens granted paths through no link at all, and reports it.
    """
    permissions = spec.permissions
    writable = [*map(absolute, (*spec.writable, *permissions.fs_write))]
    return {
        path: resolve_without_links(path, writable)
        for path in map(absolute, (*permissions.fs_read, *permissions.fs_write))
    }


def limits_of(fork_request: Mapping[str, float]) -> dict[str, float]:
    """Return the limits, with this level's defaults for those that are not set."""
    return {name: value or DEFAULTS.get(name, 0) for name, value in fork_request.items()}


def absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
