"""The level ``wasm``: the plugin in an interpreter that is a WebAssembly guest, in a worker that is confined as well.

The guest has no system calls except those that its worker provides, so its isolation works on any machine. The
confinement of the worker is a second layer, as far as this machine supports it.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import TZPATH

from microkernel.errors import IsolationUnavailable, PluginLoadError
from microkernel.hosts.confined.host import (
    ConfinedHost,
    MiB,
    absolute,
    identity_of,
    limits_of,
    path_on_disk,
    resolve_paths,
)
from microkernel.hosts.wasm.image import DAMAGED, STEPS, Image
from microkernel.hosts.wasm.packages import folders_of
from microkernel.hosts.worker.environment import visible
from microkernel.hosts.worker.runner import WorkerRunner
from microkernel.hosts.worker.temp_dirs import modules_of
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Availability, InstanceEvents, LaunchSpec, MessageSource, Reactor

# The time zone files, which are not part of a guest.
_TIME_ZONES = [path for path in TZPATH if os.path.isdir(path)][:1]
# Memory that the worker may use in addition to its guest's.
_ENGINE_MEMORY = 256 * MiB


class WasmHost(ConfinedHost):
    """Launches instances as guests, each in a separate worker."""

    level: Level = "wasm"
    require_all_layers = False
    overhead = _ENGINE_MEMORY

    def __init__(self, reactor: Reactor, python: str = sys.executable, **options: Any) -> None:
        super().__init__(reactor, python, **options)
        self._image = Image()
        self._image_lock = threading.Lock()

    def available(self) -> Availability:
        """Check what the level needs. Builds nothing: the first launch does, or `mk wasm prepare`."""
        if defect := self._defect():
            return defect
        if find_spec("wasmtime") is None:
            return Availability("wasmtime is not installed", IsolationUnavailable("MK0510", extra="wasm"))
        if self._python != sys.executable:
            return self._missing("workers of another interpreter have no engine")
        if damage := self._image.defect():
            return self._missing(damage)
        is_built = self._image.is_built()
        if not is_built and find_spec("componentize_py") is None:
            return Availability("componentize-py is not installed", IsolationUnavailable("MK0510", extra="wasm"))
        state = "guest built" if is_built else "guest not built yet (mk wasm prepare)"
        return Availability(f"wasmtime {version('wasmtime')} · {state}")

    def launch(self, spec: LaunchSpec, source: MessageSource, events: InstanceEvents) -> WorkerRunner:
        """Launch an instance. The first launch waits while the guest's image is built."""
        if spec.load.concurrency > 1:
            raise PluginLoadError("MK0127", concurrency=spec.load.concurrency)
        with self._image_lock:  # one of several concurrent launches prepares the image for all
            if not self._zygote_pool.image:
                self._zygote_pool.use_image(str(self._ensure_image(spec.load.name)))
        return super().launch(spec, source, events)

    def _ensure_image(self, plugin: str) -> Path:
        """Return the image, and announce the build if the plugin has to wait for it."""
        steps: list[str] = []

        def step(name: str) -> None:
            if not steps and name == DAMAGED:
                self._announce("MK0513", plugin, {"path": str(self._image.path)})
            elif not steps:
                self._announce("MK0511", plugin, {"folder": str(self._image.folder)})
            steps.append(name)

        began = time.monotonic()
        path = self._image.ensure(step)
        if STEPS[-1] in steps:
            self._announce("MK0512", plugin, {"seconds": round(time.monotonic() - began)})
        return path

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        """Return the fork request: the sandbox's confinement, with memory for the engine, and what the guest has within
        it."""
        request = super()._request(spec, folder)
        memory = int(limits_of(spec.limits)["memory"])
        permissions = spec.permissions
        request["limits"]["memory"] = memory + self.overhead
        variables = {os.fsencode(name): os.fsencode(os.environ[name]) for name in visible(permissions.env)}
        secret = {os.fsencode(name) for name in spec.hidden_env}
        shown = {name: value for name, value in variables.items() if name not in secret}
        own = {os.fsencode(name): os.fsencode(value) for name, value in identity_of(spec).items()}
        given = [spec.load.data_dir, *([folder] if folder else [])]
        packages, resolved = folders_of(spec.dependencies), self._folders(spec)
        library = self._image.mounts()
        source = _source_folder(spec, folder, resolved)
        request["confine"]["read"] += [*library.values(), *source.values(), *map(os.fsencode, packages)]
        request["guest"] = {
            "memory": memory,
            "env": own | shown | ({b"TMPDIR": os.fsencode(folder)} if folder else {}),
            "clock": spec.determinism.clock,
            "seed": spec.determinism.seed,
            "cwd": os.fsencode(spec.load.data_dir),
            "path": os.fsencode(os.pathsep.join(packages)),
            "read": source | _preopened([*_TIME_ZONES, *packages], permissions.fs_read, resolved) | library,
            "write": _preopened(given, permissions.fs_write, resolved),
        }
        return request

    def _folders(self, spec: LaunchSpec) -> dict[str, str]:
        """Return where granted folders lead; a granted file stays closed, which is reported."""
        resolved = resolve_paths(spec)
        for path, real in resolved.items():
            if os.path.exists(real) and not os.path.isdir(real):
                self.report_unopened(spec.load.name, path, "the level wasm opens folders only")
        return {path: real if os.path.isdir(real) else "" for path, real in resolved.items()}


def _source_folder(spec: LaunchSpec, folder: str, resolved: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return the plugin's own folder, to read.

    A single file or a wheel lies among others, so a copy in a separate folder is shown in its place. Nothing is needed
    if a folder around it is granted.
    """
    root = spec.load.root
    if any(os.path.commonpath((root, path)) == path for path in resolved):
        return {}
    if os.path.isdir(spec.source):
        return {os.fsencode(root): os.fsencode(root)}
    alone = path_on_disk(spec.source)
    if not folder or not os.path.isfile(alone):
        return {}
    shown = f"{modules_of(folder)}/source"
    os.makedirs(shown, 0o755)
    if alone == spec.source:
        Path(shown, spec.load.entry).write_bytes(spec.load.sources[spec.load.entry])
    else:
        shutil.copyfile(alone, Path(shown, os.path.basename(alone)))
    return {os.fsencode(os.path.dirname(alone)): os.fsencode(shown)}


def _preopened(own: Iterable[str], granted: Iterable[str], resolved: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return the folders of a guest: the name inside, and the path outside."""
    found = {
        **{path: path for path in own},
        **{path: resolved[path] for path in map(absolute, granted) if resolved[path]},
    }
    return {os.fsencode(name): os.fsencode(path) for name, path in found.items()}
