"""What one plugin has registered, written or logged keeps nobody from seeing the others."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.kernel.config import KernelConfig
from tests.harness.waiting import eventually

BLINDER = """
import socket, os
from microkernel import IPlugin, expose
from microkernel.wire.codec import Raw, encode
from microkernel.wire.messages import Data, Emit, Expose, Log, Method
from microkernel.wire.session import pack

class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @expose
    def send(self, what: str):
        up = socket.socket(fileno=os.dup(4))
        def frame(*messages):
            data = pack(messages)
            for start in range(0, len(data), 65536):
                up.send(data[start : start + 65536])
        if what == "signatures":
            for number in range(40):
                frame(Expose(10_000 + number, Method(f"m{number}", "(" + "x" * 500_000 + ")", "y" * 400_000)))
        elif what == "value":
            frame(Data(20_000, "set", "blinder.odd", Raw(b"\\xa3\\xff\\xfe\\xfd")))
        elif what == "letter":
            frame(Emit("blinder.odd", Raw(b"\\x81\\xa1x\\xa3\\xff\\xfe\\xfd")))
        elif what == "time":
            frame(Log(20, "when", float("inf")), Log(20, "when", float("nan")))
        elif what == "levels":
            for start in range(0, 100_000, 4000):
                frame(*[Log(start + number, "x", 0.0) for number in range(4000)])
"""
HEARER = """
from microkernel import IPlugin, on
class Plugin(IPlugin):
    def __init__(self, api): pass
    def start(self): pass
    def stop(self): pass
    @on("blinder.odd")
    def hear(self, x: int): pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["signatures", "value", "letter", "time", "levels"])
@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_hostile_content_does_not_break_listings(tmp_path: Path, what: str, level: str) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "blinder.py").write_text(BLINDER)
    (tmp_path / "plugins" / "hearer.py").write_text(HEARER)
    config = KernelConfig(data_dir=str(tmp_path / "data"))
    grants = {"hearer": {"on": ["blinder.**"]}}
    with Kernel(tmp_path / "plugins", config, isolation=level, grants=grants) as kernel:  # type: ignore[arg-type]
        kernel.call("blinder.send", what, timeout=30.0)
        kernel.call("blinder.send", "nothing", timeout=30.0)  # behind what was sent
        assert [each["name"] for each in kernel.call("kernel.list")] == ["blinder", "hearer"]
        assert kernel.call("kernel.info", "blinder")["name"] == "blinder"
        assert isinstance(kernel.call("kernel.data"), dict)
        assert isinstance(kernel.call("kernel.dead"), list)
        assert all(line["time"] < 1e12 for line in kernel.call("kernel.logs"))
        known: dict[int, bool] = logging.getLogger("microkernel.plugin.blinder")._cache  # type: ignore[attr-defined]
        assert len(known) < 200


def test_list_uses_the_last_measurement_of_confined_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each system call of it would wait for a kernel that is kept busy."""
    (tmp_path / "hearer.py").write_text(HEARER)
    grants = {"hearer": {"on": ["blinder.**"]}}
    config = KernelConfig(data_dir=str(tmp_path / "data"))
    with Kernel(tmp_path / "hearer.py", config, isolation="sandbox", grants=grants) as kernel:
        instance = kernel.core.registry.get("hearer").instance
        assert instance is not None
        runner: Any = instance.runner
        eventually(lambda: runner._measured[1], "the monitor has measured it")
        runner._usage_monitor.remove(runner)
        runner._measured = (time.monotonic(), runner._measured[1])  # the machine may be slow
        (before,) = kernel.list()
        monkeypatch.setattr(runner, "_measure", lambda: {"memory": 1})
        (info,) = kernel.list()
        assert info.memory == before.memory
        assert info.protections["system calls"] == "enforced"
        assert kernel.info("hearer").memory == 1
        assert kernel.list()[0].memory == 1
        kernel.kill("hearer")
        assert kernel.list()[0].memory is None
