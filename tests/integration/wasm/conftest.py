"""One plugin that runs the code that a test sends, in a guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.kernel.config import KernelConfig

PLUGIN = '''
import os, sys, time
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def __init__(self, api): self.api, self.state = api, None
    def start(self): pass
    def stop(self): pass
    def export_state(self): return self.state
    def import_state(self, state, from_version): self.state = state
    @expose
    def do(self, code: str):
        """Run code; the value of `result`, or which error it raised."""
        space = {"self": self, "api": self.api, "os": os, "sys": sys, "time": time}
        try:
            exec(code, space)
        except Exception as error:
            return [type(error).__name__, str(error)]
        return space.get("result")
'''
Run = Callable[..., Kernel]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a kernel with the plugin ``p``: ``run(fs_read=[...], limits={...}, manifest="...")``."""
    with ExitStack() as stack:

        def start(manifest: str = "", limits: dict[str, float] | None = None, **grants: list[str]) -> Kernel:
            asked = {name.replace("_", "."): what for name, what in grants.items()}
            granted = (f"{name} = {what}" for name, what in asked.items())
            lines = [*manifest.splitlines(), "[tool.microkernel.permissions]", *granted]
            path = tmp_path / "plugins" / "p.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text("# /// script\n" + "".join(f"# {line}\n" for line in lines) + "# ///\n" + PLUGIN)
            config = KernelConfig(data_dir=str(tmp_path / "data"), limits={"load": 30.0, **(limits or {})})
            kernel = Kernel(path.parent, config, isolation="wasm", grants={"p": "declared"})
            return stack.enter_context(kernel)

        yield start


def do(kernel: Kernel, code: str) -> Any:
    return kernel.call("p.do", code, timeout=30.0)
