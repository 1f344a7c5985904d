"""`mk` as a user runs it: real processes, a real socket, and separate folders for each test."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.preloaded_mk import PreloadedMk

MK = [sys.executable, "-c", "from microkernel.cli import main; main()"]
PATIENCE = 30.0

GREETER = '''
# /// script
# [tool.microkernel]
# version = "1.2"
# ///
from microkernel import IPlugin, expose, on

class Plugin(IPlugin):
    """Greets."""
    count = 0
    def start(self): self.api.log.info("greeter is ready")
    def stop(self): pass
    @expose
    def greet(self, who: str = "you") -> str: return f"Hello, {who}!"
    @expose
    def add(self, a: int, b: int = 1) -> int: return a + b
    @expose
    def fail(self) -> None: helper()
    @expose
    def fail_silently(self) -> None: raise MemoryError
    @expose
    def hang(self) -> None:
        while not self.api.cancelled: pass
    @on("order.created")
    def record(self, order_id: int) -> None:
        self.api.emit("order.recorded", order_id=order_id)
    @on("order.broken")
    def broken(self, order_id: int) -> None: raise RuntimeError("broken")
    def export_state(self): return 1
    def import_state(self, state, from_version): pass

def helper(): raise ValueError("no such customer")
'''


class Home:
    """A working folder with its own runtime and state folders."""

    def __init__(self, folder: Path, preloaded: PreloadedMk) -> None:
        self.folder = folder
        self._preloaded = preloaded
        self.plugins = folder / "plugins"
        self.runtime = folder / "run"
        self.plugins.mkdir()
        self.runtime.mkdir(mode=0o700)
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("LC_", "MK_"))},
            "XDG_RUNTIME_DIR": str(self.runtime), "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder),
            "TMPDIR": str(folder), "LANG": "C.UTF-8", "PYTHONUTF8": "1", "COLUMNS": "200",
        }  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        path = self.plugins / name
        path.write_text(text, encoding="utf-8")
        return path

    def mk(self, *args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and check that it exits with ``code``."""
        environment = {**self.env, **env}
        if self._preloaded.suits(environment):
            done = self._preloaded.run(args, self.folder, environment, PATIENCE)
        else:
            done = subprocess.run(
                [*MK, *args], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr + done.stdout
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *args: str, **env: str) -> Any:
        return json.loads(self.mk(*args, "--json", **env).stdout)

    def run(self, *args: str, **env: str) -> Running:
        return Running(self, args, env)


class Running:
    """`mk run` without a terminal. Its output is read as it arrives."""

    def __init__(self, home: Home, args: tuple[str, ...], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*MK, "run", *args], cwd=home.folder, env={**home.env, **env}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, pattern: str) -> str:
        """Return the first line, already printed or to come, that matches."""
        for line in self.output:
            if re.search(pattern, line):
                return line
        until = time.monotonic() + PATIENCE
        while True:
            line_or_end = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            if line_or_end is None:
                self._lines.put(None)
                raise AssertionError(f"{pattern!r} never came:\n{self.text}")
            self.output.append(line_or_end)
            if re.search(pattern, line_or_end):
                return line_or_end

    @property
    def text(self) -> str:
        return "\n".join(self.output)

    def end(self, *signals: signal.Signals) -> int:
        """Send signals one after the other, and return the exit code."""
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (line := self._lines.get()) is not None:
            self.output.append(line)
        self._lines.put(None)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()


@pytest.fixture(scope="package")
def preloaded() -> Iterator[PreloadedMk]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "MK_"))}
    mk = PreloadedMk({**variables, "LANG": "C.UTF-8", "PYTHONUTF8": "1"})
    yield mk
    mk.close()


@pytest.fixture
def home(tmp_path: Path, preloaded: PreloadedMk) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder, preloaded)


Start = Callable[..., Running]


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    """Return a function that starts `mk run` in the home. It is ended with the test."""
    started: list[Running] = []

    def begin(*args: str, **env: str) -> Running:
        started.append(home.run(*args, **env))
        return started[-1]

    yield begin
    for running in started:
        running.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, preloaded: PreloadedMk) -> Iterator[Home]:
    """One kernel for all tests of a module that do not change it."""
    folder = tmp_path_factory.mktemp("shared") / "home"
    folder.mkdir()
    home = Home(folder, preloaded)
    home.write("greeter.py", GREETER)
    running = home.run("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    yield home
    assert running.end() == 0, running.text
