"""A plugin at the other end of the socket: the SDK's runtime over a GuestChannel."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.control.guest import GuestChannel
from microkernel.control.server import ControlServer
from microkernel.errors import KernelClosed, KernelError
from microkernel.sdk.runtime import Runtime
from microkernel.wire import messages

PLUGIN = b"""
from microkernel import IPlugin, on

class Plugin(IPlugin):
    def start(self):
        assert self.api.call("sum.add", 1) == 3
        self.api.emit("guest.ready")
    def stop(self): self.api.emit("guest.left")
    @on("pong.*")
    def heard(self, n: int):
        self.api.set_data("guest.heard", n)
        if n == 2:
            self.api.spawn(self.api.call, "kernel.shutdown")
"""


def guest(path: Path, source: bytes = PLUGIN) -> tuple[GuestChannel, threading.Thread]:
    load = messages.Load("console", "1", 1, "thread", "/nowhere", "console.py", {"console.py": source})
    channel = GuestChannel(path, load)
    thread = threading.Thread(target=lambda: Runtime(channel).run())
    thread.start()
    return channel, thread


def test_it_lives_as_if_the_kernel_had_made_it(kernel: Kernel, server: ControlServer) -> None:
    there = {name: threading.Event() for name in ("guest.ready", "guest.left", "kernel.shutdown")}
    for topic, event in there.items():
        kernel.on(topic, event.set)
    channel, thread = guest(server.path)
    assert there["guest.ready"].wait(10)
    kernel.emit("ping.me", n=1)
    kernel.emit("ping.me", n=2)
    thread.join(10)
    assert not thread.is_alive()
    assert kernel.get_data("guest.heard") == 2
    assert there["guest.left"].wait(10)
    assert channel.trouble() is None
    channel.close()
    assert not there["kernel.shutdown"].is_set(), "its shutdown is the guest's, not the kernel's"


def test_the_kernels_end_stops_it(kernel: Kernel, server: ControlServer) -> None:
    ready = threading.Event()
    kernel.on("guest.ready", ready.set)
    channel, thread = guest(server.path)
    assert ready.wait(10)
    server.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(channel.trouble(), KernelClosed)
    channel.close()


@pytest.mark.parametrize("source", [b"1 / 0", b"from microkernel import IPlugin\nPlugin = 3"])
def test_what_is_wrong_with_it_is_told(server: ControlServer, source: bytes) -> None:
    channel, thread = guest(server.path, source)
    thread.join(10)
    assert isinstance(channel.trouble(), KernelError)
    channel.close()


def test_an_async_plugin_can_be_a_guest(kernel: Kernel, server: ControlServer) -> None:
    source = PLUGIN.replace(b"def heard", b"async def heard")
    ready = threading.Event()
    kernel.on("guest.ready", ready.set)
    channel, thread = guest(server.path, source)
    assert ready.wait(10)
    for number in range(50):
        kernel.emit("ping.me", n=number if number < 49 else 2)
    thread.join(10)
    assert not thread.is_alive()
    channel.close()
