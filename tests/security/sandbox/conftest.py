"""One plugin that runs the code that a test sends, at any level, with the grants of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from microkernel import Kernel
from microkernel.hosts.worker import host
from microkernel.hosts.worker.cgroup_layout import Layout, Unavailable
from microkernel.hosts.worker.cgroups import Groups
from microkernel.kernel.config import KernelConfig

PLUGIN = '''
import asyncio, ctypes, mmap, os, signal, socket, sqlite3, ssl, stat, struct, subprocess, sys, tempfile, threading, time
from microkernel import IPlugin, expose
libc = ctypes.CDLL(None, use_errno=True)

def syscall(number, *arguments):
    """What the system says: a number, or an OSError."""
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        if self.api.isolation == "process":
            os.chdir(self.api.data_dir)  # the sandbox does so by itself
    def stop(self): pass
    @expose
    def do(self, code: str, names: dict):
        """Run code; the value of `result`, or which error it raised."""
        space = {**globals(), **names, "api": self.api}
        try:
            exec(code, space)
        except Exception as error:
            return [type(error).__name__, str(error)]
        return [None, space.get("result")]
'''


class Doing(Protocol):
    def __call__(self, code: str, /, **names: Any) -> list[Any]: ...


class KernelFactory:
    """Creates kernels with that plugin, ``p``."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.path = folder / "plugins" / "p.py"
        self.path.parent.mkdir()
        self.path.write_text(PLUGIN)

    def kernel(self, level: Any, grants: dict[str, list[str]] | None = None, **limits: float) -> Kernel:
        """Create a kernel. ``doing`` uses the last one. The plugin may exit at any time: nothing restarts it."""
        config = KernelConfig(data_dir=str(self.folder / f"data-{level}"), limits={"load": 30.0, **limits})
        kernel = Kernel(self.path.parent, config, isolation=level, grants={"p": grants or {}})
        self._stack.enter_context(kernel)
        assert kernel.info("p").state == "active", (kernel.info("p").error, kernel.info("p").traceback)
        return kernel

    def doing(self, level: Any, grants: dict[str, list[str]] | None = None, **limits: float) -> Doing:
        kernel = self.kernel(level, grants, **limits)

        def do(code: str, /, **names: Any) -> list[Any]:
            found: list[Any] = kernel.call("p.do", code, names, timeout=30.0)
            return found

        return do


@pytest.fixture
def no_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine on which this user cannot create control groups."""

    def none() -> Layout:
        raise Unavailable("needs delegation")

    monkeypatch.setattr(host, "Groups", lambda: Groups(none))


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[KernelFactory]:
    with ExitStack() as stack:
        yield KernelFactory(tmp_path, stack)
