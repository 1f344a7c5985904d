"""The demo as it is run: it ends, says the truth, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import EXAMPLES, LONG

DEMO = EXAMPLES / "stdlib_index" / "demo.py"
PLUGINS = EXAMPLES / "stdlib_index" / "plugins"


class Running:
    """The demo in a separate process, with a folder for its temporary files."""

    def __init__(self, temporary: Path, *options: str, language: str = "en") -> None:
        self.temporary = temporary
        environment = {**os.environ, "TMPDIR": str(temporary), "MK_LANG": language, "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            [sys.executable, str(DEMO), "--quick", *options],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        )  # fmt: skip

    def read_until(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if word in line:
                return
        pytest.fail(f"it ended without {word!r}")

    def finish(self) -> tuple[int, str]:
        output = self.process.communicate(timeout=2 * LONG)[0]
        return self.process.returncode, output

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.temporary.iterdir())


Launch = Callable[..., Running]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """``launch("--seed", "3", language="zh")``"""
    folder = tmp_path / "temporary"
    folder.mkdir()
    with ExitStack() as ending:

        def start(*options: str, language: str = "en") -> Running:
            demo = Running(folder, *options, language=language)
            ending.enter_context(demo.process)
            ending.callback(demo.process.kill)
            return demo

        yield start


def below(pid: int) -> dict[int, str]:
    """All processes below one, each with the time it began, so that a reused number is not taken for it."""
    began, children = {}, {}
    for each, parent, start in _processes():
        began[each] = start
        children.setdefault(parent, []).append(each)
    found, left = {}, [pid]
    while left:
        for child in children.get(left.pop(), []):
            found[child] = began[child]
            left.append(child)
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            yield int(folder.name), int(fields[1]), fields[19]


def wait_until_gone(processes: dict[int, str]) -> None:
    deadline = time.monotonic() + LONG
    while left := {(pid, start) for pid, _, start in _processes()} & set(processes.items()):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.slow
def test_it_ends_with_equal_totals_and_changes_no_file(launch: Launch) -> None:
    before = {path: path.read_bytes() for path in PLUGINS.rglob("*.py")}
    demo = launch()
    status, output = demo.finish()
    assert status == 0, output
    for said in ("killed in", "MK0305", "version 1.1", "killed by SIGSEGV", "silent for", "equal:", "Try next"):
        assert said in output, output
    assert re.search(r"parser_b +1\.0 +wasm", output), output
    assert demo.leftovers() == []
    assert {path: path.read_bytes() for path in PLUGINS.rglob("*.py")} == before


@pytest.mark.slow
def test_it_speaks_chinese_and_crashes_elsewhere(launch: Launch) -> None:
    status, output = launch("--seed", "3", language="zh").finish()
    assert status == 0, output
    assert "完全一致" in output
    assert "第 2 代" in output
    assert "--seed 4" in output


@pytest.mark.slow
def test_without_wasm_it_says_so_and_the_parser_runs_at_process(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide = "import importlib.util as u; find = u.find_spec; "
    hide += "u.find_spec = lambda name, *more: None if name == 'wasmtime' else find(name, *more)"
    (tmp_path / "sitecustomize.py").write_text(hide)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    status, output = launch().finish()
    assert status == 0, output
    assert "MK0510" in output
    assert re.search(r"parser_b +1\.0 +process", output), output
    assert "equal:" in output


def test_who_interrupts_it_while_it_is_being_loaded_sees_nothing(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = "import os, signal, sys\nclass Finder:\n    def find_spec(self, name, *_):\n"
    interrupt += "        if name == 'microkernel.app': os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "sitecustomize.py").write_text(f"{interrupt}sys.meta_path.insert(0, Finder())\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    demo = launch()
    assert demo.finish() == (130, "")
    assert demo.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(launch: Launch, number: signal.Signals) -> None:
    demo = launch()
    demo.read_until("generation 2")
    processes = below(demo.process.pid)
    assert processes
    demo.process.send_signal(number)
    status, output = demo.finish()
    assert status == 130, output
    assert "Traceback" not in output
    assert demo.leftovers() == []
    wait_until_gone(processes)


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_process(launch: Launch) -> None:
    demo = launch()
    demo.read_until("generation 2")
    processes = below(demo.process.pid)
    assert processes
    demo.process.kill()
    demo.finish()
    wait_until_gone(processes)
