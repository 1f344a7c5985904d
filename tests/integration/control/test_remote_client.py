"""A plugin at the other end of the socket: the SDK's runtime over a RemoteClientChannel."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.control.remote_client import RemoteClientChannel
from microkernel.control.server import ControlServer
from microkernel.errors import KernelClosed, KernelError
from microkernel.sdk.runtime.runtime import Runtime
from microkernel.wire import messages

PLUGIN = b"""
from microkernel import IPlugin, on

class Plugin(IPlugin):
    def start(self):
        assert self.api.call("sum.add", 1) == 3
        self.api.emit("visitor.ready")
    def stop(self): self.api.emit("visitor.left")
    @on("pong.*")
    def heard(self, n: int):
        self.api.set_data("visitor.heard", n)
        if n == 2:
            self.api.spawn(self.api.call, "kernel.shutdown")
"""


def visitor(path: Path, source: bytes = PLUGIN) -> tuple[RemoteClientChannel, threading.Thread]:
    load = messages.Load("console", "1", 1, "thread", "/nowhere", "console.py", {"console.py": source})
    channel = RemoteClientChannel(path, load)
    thread = threading.Thread(target=lambda: Runtime(channel).run())
    thread.start()
    return channel, thread


def test_a_remote_plugin_lives_like_a_plugin_of_the_kernel(kernel: Kernel, server: ControlServer) -> None:
    there = {name: threading.Event() for name in ("visitor.ready", "visitor.left", "kernel.shutdown")}
    for topic, event in there.items():
        kernel.on(topic, event.set)
    channel, thread = visitor(server.path)
    assert there["visitor.ready"].wait(10)
    kernel.emit("ping.me", n=1)
    kernel.emit("ping.me", n=2)
    thread.join(10)
    assert not thread.is_alive()
    assert kernel.get_data("visitor.heard") == 2
    assert there["visitor.left"].wait(10)
    assert channel.failure() is None
    channel.close()
    assert not there["kernel.shutdown"].is_set(), "its shutdown is the visitor's, not the kernel's"


def test_a_remote_plugin_stops_when_the_kernel_ends(kernel: Kernel, server: ControlServer) -> None:
    ready = threading.Event()
    kernel.on("visitor.ready", ready.set)
    channel, thread = visitor(server.path)
    assert ready.wait(10)
    server.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(channel.failure(), KernelClosed)
    channel.close()


@pytest.mark.parametrize("source", [b"1 / 0", b"from microkernel import IPlugin\nPlugin = 3"])
def test_a_remote_plugin_that_fails_reports_its_error(server: ControlServer, source: bytes) -> None:
    channel, thread = visitor(server.path, source)
    thread.join(10)
    assert isinstance(channel.failure(), KernelError)
    channel.close()


def test_an_async_plugin_can_be_a_remote_client(kernel: Kernel, server: ControlServer) -> None:
    source = PLUGIN.replace(b"def heard", b"async def heard")
    ready = threading.Event()
    kernel.on("visitor.ready", ready.set)
    channel, thread = visitor(server.path, source)
    assert ready.wait(10)
    for number in range(50):
        kernel.emit("ping.me", n=number if number < 49 else 2)
    thread.join(10)
    assert not thread.is_alive()
    channel.close()
