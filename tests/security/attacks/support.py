"""What the attacks share: plugins from a line or two, conditions to wait for, and a look at what is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

from microkernel import Kernel
from microkernel.kernel.reporting.plugin_info import PluginInfo
from tests.harness.waiting import PATIENCE, eventually

LOCKS: dict[str, threading.Lock] = {}
"""What thread plugins wait for; they are in this process, and import this module."""

HEADER = """\
import os, signal, subprocess, sys, threading, time
from microkernel import IPlugin, PluginAPI, every, expose, on
"""
HEALTHY = """\
class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
        self.seen = []
    def start(self): pass
    def stop(self): pass
    @on("attack.**")
    def note(self, event):
        self.seen.append(event.topic)
    @expose
    def answer(self, number: int = 41) -> int:
        return number + 1
    @expose
    def topics(self) -> list:
        return self.seen
"""


def manifest(**tables: object) -> str:
    """A PEP 723 block; ``limits={"stop": 0.2}`` is a table, ``version="1"`` a key."""
    lines = ["# /// script", "# [tool.microkernel]"]
    for key, value in tables.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{name} = {_toml(item)}" for name, item in value.items())
            lines.append(f"# {key} = {{{inner}}}")
        else:
            lines.append(f"# {key} = {_toml(value)}")
    return "\n".join([*lines, "# ///", ""])


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


class Plugins:
    """A folder of plugins, being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.py"

    def raw(self, name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        self.path(name).write_bytes(data)
        return self.path(name)

    def add(self, stem: str, body: str, **tables: object) -> Path:
        """A plugin of this source, below the usual imports; ``tables`` are its manifest."""
        return self.raw(stem, (manifest(**tables) if tables else "") + HEADER + textwrap.dedent(body))

    def healthy(self, stem: str = "healthy", **tables: object) -> Path:
        return self.add(stem, HEALTHY, **tables)

    def kernel(self, isolation: str | None = "process", **options: object) -> Kernel:
        return Kernel(self.folder, isolation=isolation, **options)  # type: ignore[arg-type]


def state_is(kernel: Kernel, name: str, *states: str) -> PluginInfo:
    """Wait until the plugin is in one of these states."""
    eventually(lambda: kernel.info(name).state in states, f"{name} becomes one of {states}")
    return kernel.info(name)


class Script:
    """A separate program, for attacks that would end this process. Its output lines can be waited for."""

    def __init__(self, code: str, folder: Path, **variables: str) -> None:
        self.path = folder / "script.py"
        self.path.write_text(textwrap.dedent(code))
        self.errors = folder / "stderr.txt"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "dev", str(self.path)],
                cwd=folder,
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line it prints; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, text: str = "") -> None:
        """A line for its ``input()``."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> tuple[int, str, str]:
        """Wait for it: exit status, what else it printed, and its stderr."""
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        out = self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(PATIENCE), out, self.errors.read_text()


class Injected(Exception):
    """Raised inside thread plugins, at any bytecode."""


class Arena:
    """Where thread plugins and the test that injects into them meet."""

    def __init__(self) -> None:
        self.going = True
        self.targets: dict[str, int] = {}
        """Threads that want exceptions, by name."""
        self.caught: dict[str, int] = {}
        self.rounds: dict[str, int] = {}
        self.problems: list[str] = []

    def loop(self, name: str, work: Callable[[], object]) -> None:
        """Work again and again, and catch what is injected, until the test is over. On the thread that is attacked."""
        self.targets[name] = threading.get_ident()
        self.caught.setdefault(name, 0)
        self.rounds.setdefault(name, 0)
        while self.going:
            try:
                self._catch(name, lambda: self._catch(name, lambda: self._catch(name, work)))
            except Injected:
                self.caught[name] += 1

    def _catch(self, name: str, work: Callable[[], object]) -> None:
        try:
            while self.going:
                try:
                    work()
                    self.rounds[name] += 1
                except Injected:
                    self.caught[name] += 1
                except Exception as error:
                    if not isinstance(error.__context__, Injected):
                        self.problems.append(f"{name}: {error!r}")
        except Injected:
            self.caught[name] += 1


ARENA: list[Arena] = []
