"""Entry point of a guest: ``run`` runs one instance. This module is imported while the guest image is built."""

from __future__ import annotations

import errno
import importlib
import os
import random
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import wit_world  # type: ignore[import-not-found] # made by componentize-py from world.wit
from componentize_py_types import Err  # type: ignore[import-not-found] # part of componentize-py

from microkernel.guest import polling, sockets, stdlib_modules

stdlib_modules.ship(Path(__file__).parents[2])  # first, because the memory it frees is reused by the modules below
stdlib_modules.prefer_shims()
stdlib_modules.adapt("_socket", sockets.shim)  # from here on `socket` may be imported
stdlib_modules.adapt("select", polling.shim)
sockets.connect_by(wit_world, Err)
polling.wait_by(wit_world)

import microkernel.sdk
from microkernel.errors import KernelError
from microkernel.guest import bytecode, loop
from microkernel.guest.guest_channel import GuestChannel
from microkernel.sdk import denials
from microkernel.sdk.binding.handlers import warm_up
from microkernel.sdk.runtime.runtime import Runtime

_NO_MODULE = "at the level wasm, which has no C extensions and not all of the standard library, there is no module "
_system_time = time.monotonic
# Difference between the machine's monotonic clock and the guest's, which starts when the guest does.
_ahead = 0.0


def _patch_monotonic(module: Any) -> None:
    """Patch ``time.monotonic`` to return the machine's monotonic clock, in which deadlines are given."""
    module.monotonic = lambda: _system_time() + _ahead


def _no_thread(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(
        "there are no threads at the level wasm: use async def, or the level sandbox or process for this plugin"
    )


def _start_none(module: Any) -> None:
    for name in ("start_new_thread", "start_new", "start_joinable_thread", "_start_joinable_thread"):
        if hasattr(module, name):
            setattr(module, name, _no_thread)


def _start_no_process(module: Any) -> None:
    module.BaseProcess.start = _no_process


def _no_process(*_: Any) -> NoReturn:
    raise OSError(errno.ENOTSUP, "there are no processes at the level wasm: use the level process for this plugin")


for _name, _patch in {
    "time": _patch_monotonic,
    "_thread": _start_none,
    "threading": _start_none,
    "multiprocessing.process": _start_no_process,
    "asyncio": loop.shim,
    "asyncio.events": loop.shim,
}.items():
    stdlib_modules.adapt(_name, _patch)
stdlib_modules.load()
warm_up()
str(KernelError("MK0612", reason=""))  # loads the catalog, which is a file
microkernel.leave_out_embedding()
for _name in microkernel.__all__:
    getattr(microkernel, _name)


class WitWorld(wit_world.WitWorld):  # type: ignore[misc]
    """The exports of ``world.wit``."""

    def run(self) -> None:
        global _ahead
        _ahead = wit_world.now() - _system_time()
        sockets.set_tls_version(os.environ.pop("MK_GUEST_TLS"))
        folder = os.environ.pop("MK_GUEST_FOLDER")
        os.chdir(folder)
        packages = [*filter(None, os.environ.pop("MK_GUEST_PATH").split(os.pathsep))]
        bytecode.cache_bytecode(packages, f"{folder}/__pycache__")
        stdlib_modules.look_in(packages)
        memory = float(os.environ.pop("MK_GUEST_MEMORY"))
        denials.set_bounds(os.environ.pop("MK_GUEST_NAME"), "wasm", {"memory": memory})
        random.seed()  # else all guests would draw from the state that was seeded in the image
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, TextIOWrapper)
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
        importlib._bootstrap._ERR_MSG_PREFIX = _NO_MODULE  # type: ignore[attr-defined]
        channel = GuestChannel(wit_world)
        loop.wait_by(channel)
        try:
            Runtime(channel).run()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # above is only the engine, which would report a panic
            os._exit(1)
