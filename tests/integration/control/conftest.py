"""A kernel of thread plugins with a control socket, in a runtime folder for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.control.server import ControlServer

PLUGIN = """
from microkernel import IPlugin, expose, on

class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def add(self, a: int, b: int = 2) -> int: return a + b
    @expose
    def fail(self): raise ValueError("no")
    @expose
    def wait(self): self.api.sleep(10)
    @expose
    def flood(self, count: int):
        for number in range(count):
            self.api.emit("sum.flood", number=number, filling="x" * 1000)
        return count
    @on("ping.me")
    def pong(self, n: int): self.api.emit("pong.you", n=n)
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``XDG_RUNTIME_DIR`` of this test, which does not see other kernels of the machine."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return folder


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "sum.py").write_text(PLUGIN, encoding="utf-8")
    with Kernel(folder, isolation="thread", name="test") as kernel:
        yield kernel


@pytest.fixture
def server(kernel: Kernel) -> Iterator[ControlServer]:
    server = ControlServer(kernel.core)
    server.open()
    yield server
    server.close()
