"""Errors in a guest are explained: which permission, which limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import CallFailed
from microkernel.kernel.config import KernelConfig

PLUGIN = """
from microkernel import IPlugin, expose

class Plugin(IPlugin):
    def start(self): ...
    def stop(self): ...
    @expose
    def use(self, path: str, mode: str): open(path, mode).close()
    @expose
    def fill(self): return len(bytearray(1 << 30))
"""


def test_a_denial_names_the_folder_to_grant_and_a_limit_its_value(tmp_path: Path) -> None:
    granted, path = tmp_path / "granted", tmp_path / "p.py"
    granted.mkdir()
    (granted / "file").touch()
    path.write_text(PLUGIN)
    config = KernelConfig(data_dir=str(tmp_path / "data"), limits={"load": 60.0, "memory": 200 << 20})

    def message(method: str, *arguments: str) -> str:
        with pytest.raises(CallFailed) as caught:
            kernel.call(f"p.{method}", *arguments, timeout=30.0)
        return str(caught.value.remote_message)

    with Kernel(path, config, isolation="wasm", grants={"p": {"fs.read": [str(granted)]}}) as kernel:
        assert "MK0401 p has no permission for fs.read /etc; add" in message("use", "/etc/passwd", "r")
        assert f'fs.write = ["{granted}"]' in message("use", str(granted / "file"), "a")
        assert "MK0" not in message("use", str(granted / "nothing"), "r")
        assert "limits.memory is 209,715,200" in message("fill")
