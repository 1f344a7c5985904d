"""Where a guest begins: ``run`` is the whole life of one instance. This module is imported while the guest is built."""

from __future__ import annotations

import importlib
import os
import random
import sys
import threading
import time
from io import TextIOWrapper
from typing import NoReturn

import wit_world  # type: ignore[import-not-found] # made by componentize-py from world.wit
from componentize_py_types import Err  # type: ignore[import-not-found] # its own

from microkernel.guest import sockets

sockets.stand_in(wit_world, Err)  # from here on `socket` may be imported

import socket

import microkernel.sdk
from microkernel.errors import KernelError
from microkernel.guest import loop, standard, tls
from microkernel.guest.channel import GuestChannel
from microkernel.sdk.handlers import rehearse
from microkernel.sdk.names import addresses
from microkernel.sdk.runtime import Runtime

socket.getaddrinfo = addresses
tls.stand_in()
standard.carry()
rehearse()
str(KernelError("MK0612", reason=""))  # has the catalog read, which is a file
for _name in microkernel.__all__:
    if _name not in ("Kernel", "KernelConfig"):
        getattr(microkernel, _name)


_NO_MODULE = "at the level wasm, which has no C extensions and not all of the standard library, there is no module "


class WitWorld(wit_world.WitWorld):  # type: ignore[misc]
    """The exports of ``world.wit``."""

    def run(self) -> None:
        _keep_time()
        sys.path += filter(None, os.environ.pop("MK_GUEST_PATH").split(os.pathsep))
        os.chdir(os.environ.pop("MK_GUEST_FOLDER"))
        random.seed()  # else all guests would draw what was seeded while this one was built
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, TextIOWrapper)
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
        importlib._bootstrap._ERR_MSG_PREFIX = _NO_MODULE  # type: ignore[attr-defined]
        threading.Thread.start = _no_threads  # type: ignore[method-assign]
        channel = GuestChannel(wit_world)
        loop.install(channel)
        try:
            Runtime(channel).run()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # above is only the engine, to which it would be a panic
            os._exit(1)


def _keep_time() -> None:
    """The machine's monotonic clock: deadlines are told in it."""
    own = time.monotonic
    ahead = wit_world.now() - own()
    time.monotonic = lambda: own() + ahead


def _no_threads(self: threading.Thread) -> NoReturn:  # noqa: ARG001
    raise RuntimeError(
        "there are no threads at the level wasm: use async def, or the level sandbox or process for this plugin"
    )
