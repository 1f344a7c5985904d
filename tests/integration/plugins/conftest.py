"""A kernel with a watched folder, as in `mk run`. Tests wait for events and never sleep."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import microkernel
from microkernel import Event, Kernel
from microkernel.kernel.config import KernelConfig, PluginConfig

WATCHER = Path(microkernel.__file__).parent / "plugins" / "watcher"
PATIENCE = 30.0


def source(value: object, *, header: str = "", body: str = "") -> str:
    """Return a plugin whose method ``value`` identifies the source that runs."""
    block = f"# /// script\n# [tool.microkernel]\n# {header}\n# ///\n" if header else ""
    return (
        f"{block}from microkernel import IPlugin, expose\n\n"
        f"class Plugin(IPlugin):\n    @expose\n    def value(self): return {value!r}\n"
        f"    def start(self): {body or 'pass'}\n    def stop(self): pass\n"
    )


class Watched:
    """Records the kernel's messages. ``wait_for`` returns the first matching one, already reported or to come."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.messages: list[tuple[str, str]] = []
        self._news: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.kernel: Kernel

    def hear(self, kernel: Kernel) -> None:
        self.kernel = kernel
        kernel.on("kernel.message", self._message, inline=True)
        kernel.core.plugins.load(str(WATCHER), built_in=True)

    def _message(self, event: Event) -> None:
        self._news.put((event.data["plugin"], event.data["id"]))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def wait_for(self, plugin: str, id: str, times: int = 1) -> None:
        """Wait until this was reported ``times`` times in total."""
        until = time.monotonic() + PATIENCE
        while self.messages.count((plugin, id)) < times:
            try:
                self.messages.append(self._news.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"{plugin} {id} was said {self.messages}") from None

    def until(self, fits: Callable[[], Any]) -> None:
        until = time.monotonic() + PATIENCE
        while not fits():
            assert time.monotonic() < until, (self.messages, self.kernel.list())
            time.sleep(0.002)

    def settle(self) -> None:
        """Wait until all earlier changes of files are handled, by way of a plugin that is written now."""
        name = f"settle{sum(1 for _ in self.folder.glob('settle*'))}"
        self.write(f"{name}.py", source(name))
        self.wait_for(name, "MK0218")

    def value(self, name: str) -> Any:
        return self.kernel.call(f"{name}.value")

    def state(self, name: str) -> str:
        return self.kernel.info(name).state

    def generation(self, name: str) -> int:
        return self.kernel.info(name).generation

    def said(self, plugin: str) -> list[str]:
        while not self._news.empty():
            self.messages.append(self._news.get())
        return [id for who, id in self.messages if who == plugin]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return Watched(folder)


Open = Callable[..., Watched]


@pytest.fixture
def begin(watched: Watched) -> Iterator[Open]:
    """Open the kernel on the folder, or on other places."""
    kernels: list[Kernel] = []

    def start(*places: Path, **limits: float) -> Watched:
        own = PluginConfig(isolation="thread")
        config = KernelConfig(plugin={"watcher": own}, limits=limits)
        grants = {"watcher": {"kernel": ["control"]}}
        kernel = Kernel(places or watched.folder, config, isolation="thread", grants=grants)
        kernels.append(kernel)
        kernel.open(watched.hear)
        return watched

    yield start
    for kernel in kernels:
        kernel.close()
