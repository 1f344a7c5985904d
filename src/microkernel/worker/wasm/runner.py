"""The level ``wasm``: in this confined worker, the plugin runs in an interpreter that is itself a guest.

The guest has what WASI provides (clocks, random numbers, the output, the granted folders) and the functions of
``guest/world.wit``: this channel, the clock, and connections that the kernel made (``guest_sockets.py``). A store
belongs to one worker and its main thread.

Time in a guest is not metered: a worker holds one instance, and one that exceeds its time is killed with its process,
as at every level. So code in a guest runs a tenth faster, and one mechanism covers loops, C code and sleep alike.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wasmtime import Config, Engine, ExitTrap, Store, WasiConfig, WasmtimeError
from wasmtime.component import Component, Linker

from microkernel.wire import frames
from microkernel.wire.messages import Failed, Failure, SelfExit
from microkernel.wire.nonblocking_io import MAX_WAIT, SPIN_SECONDS, AdaptiveSpin
from microkernel.worker import process_setup
from microkernel.worker.socket_shim import BrokerClient
from microkernel.worker.wasm import determinism, host_functions
from microkernel.worker.wasm.guest_sockets import Connections

DOWN, UP, _CLOSED = 1, 2, 4
# More descriptors than a worker's channel has.
_CHANNEL_DESCRIPTORS = 32
_MAX_REASON = 200
# The guest's component, a linker with WASI, and the types of all that the component imports.
_image: tuple[Component, Linker, dict[str, Any]] | None = None


def build(component: str, image: str) -> None:
    """Compile a component for this machine."""
    Path(image).write_bytes(Component.from_file(_engine(), component).serialize())


def prepare(image: str) -> None:
    """Load the image in the zygote: all workers share the guest's code and its initial memory, which stays in the file.

    The engine keeps the file open, under a number that no worker's channel uses.
    """
    global _image
    engine = _engine()
    below = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_CHANNEL_DESCRIPTORS)]
    before = _open_descriptors()
    component, linker = Component.deserialize_file(engine, image), Linker(engine)
    linker.add_wasip2()
    _image = component, linker, host_functions.import_types(component, linker)
    process_setup.keep_open(_open_descriptors() - before)
    for descriptor in below:
        os.close(descriptor)


def _open_descriptors() -> set[int]:
    return {int(entry) for entry in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{entry}")}


def _engine() -> Engine:
    return Engine(Config())


def run(
    down: socket.socket,
    up: socket.socket,
    lanes: Sequence[socket.socket],
    broker: BrokerClient,
    requested: Mapping[str, Any],
    report: Callable[[Failed | SelfExit], object],
) -> int:
    """Run the instance. Return the status to exit with. A guest that traps, or asks its worker for something
    impossible, is reported.

    ``requested``: ``memory`` in bytes, ``env``, ``path`` of the packages, ``cwd``; ``read`` and ``write``, the folders
    of the guest, by name; ``clock`` and ``seed`` as in ``determinism``.
    """
    assert _image is not None
    component, linker, types = _image
    store = Store(linker.engine)
    store.set_limits(memory_size=requested["memory"])
    store.set_wasi(_wasi(requested))
    determinism.install(linker, types, requested["clock"], requested["seed"])
    _kept = host_functions.define_functions(linker, types, _Imports(down, up, lanes, Connections(broker)).functions())
    try:
        instance = linker.instantiate(store, component)
    except WasmtimeError as error:
        fields = {"memory": requested["memory"], "reason": _reason(error)}
        report(Failed("load", Failure("PluginLoadError", "MK0130", fields)))
        return 1
    run_guest = instance.get_func(store, "run")
    assert run_guest is not None
    try:
        run_guest(store)
    except ExitTrap:
        return 1  # WASI distinguishes only success and failure
    except Exception as error:
        report(SelfExit(_reason(error), 1))
        return 1
    return 0


def _reason(error: Exception) -> str:
    """Return the reason; for a trap the last line, which follows the interpreter's functions."""
    if isinstance(error, WasmtimeError):
        return str(error).strip().rpartition("\n")[2].strip()
    return f"it made a request that its worker cannot fulfil: {type(error).__name__}: {error}"[:_MAX_REASON]


def _wasi(requested: Mapping[str, Any]) -> WasiConfig:
    wasi = WasiConfig()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    tls = f"{ssl.OPENSSL_VERSION_NUMBER} {ssl.OPENSSL_VERSION}".encode()
    own = {b"MK_GUEST_PATH": requested["path"], b"MK_GUEST_FOLDER": requested["cwd"], b"MK_GUEST_TLS": tls}
    own |= {b"MK_GUEST_NAME": os.fsencode(sys.argv[0]), b"MK_GUEST_MEMORY": b"%d" % requested["memory"]}
    variables = requested["env"] | own
    wasi.env = [(os.fsdecode(name), os.fsdecode(value)) for name, value in variables.items()]
    for writable, folders in ((False, requested["read"]), (True, requested["write"])):
        for name, folder in folders.items():
            if os.path.isdir(folder):
                wasi.preopen_dir(os.fsdecode(folder), os.fsdecode(name), writable)
    return wasi


class _Imports:
    """The functions that ``world.wit`` declares for the guest."""

    def __init__(
        self, down: socket.socket, up: socket.socket, lanes: Sequence[socket.socket], connections: Connections
    ) -> None:
        self._sockets = {DOWN: down, UP: up}
        self._up = up
        self._lanes = lanes
        self._connections = connections
        self._spin = AdaptiveSpin(SPIN_SECONDS, yields=False)
        self._polls: dict[int, select.poll] = {}
        for sources in range(1 + (DOWN | UP)):
            poll = self._polls[sources] = select.poll()
            for source, end in self._sockets.items():
                if source & sources:
                    poll.register(end, select.POLLIN)
        self._sources = {end.fileno(): source for source, end in self._sockets.items()}

    def functions(self) -> dict[str, Any]:
        own = {"receive": self.receive, "send": self.send, "reply": self.reply, "wait": self.wait}
        return {**own, "now": time.monotonic, **self._connections.functions()}

    def receive(self, sources: int, timeout: float) -> str:
        alone = self._sockets.get(sources)
        if alone is not None and timeout and (soon := self._spin.try_receive(alone.fileno())):
            return chr(sources) + soon.decode("latin-1")
        wait = None if timeout < 0 else min(timeout, MAX_WAIT) * 1000
        ready = self._polls[sources].poll(wait)
        if not ready:
            return ""
        source = self._sources[ready[0][0]]
        try:
            data = self._sockets[source].recv(frames.DATAGRAM)
        except ConnectionError:
            data = b""
        return chr(source) + data.decode("latin-1") if data else chr(_CLOSED)

    def wait(
        self, sources: int, reading: Sequence[int], writing: Sequence[int], timeout: float
    ) -> tuple[int, list[int], list[int]]:
        ends = {source: end for source, end in self._sockets.items() if source & sources}
        return self._connections.wait(ends, reading, writing, timeout)

    def send(self, frame: str) -> bool:
        return _send(self._up, frame)

    def reply(self, lane: int, frame: str) -> bool:
        return lane < len(self._lanes) and _send(self._lanes[lane], frame)


def _send(end: socket.socket, frame: str) -> bool:
    try:
        for part in frames.datagrams(frame.encode("latin-1")):
            end.send(part)
    except OSError:
        return False
    return True
