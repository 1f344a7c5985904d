"""`mk wasm prepare` with a simulated build: its output, the location of the guest, and errors."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.cli import wasm_prepare
from microkernel.cli.output import Output
from microkernel.errors import IsolationUnavailable
from microkernel.hosts.wasm import image
from microkernel.hosts.wasm.image import Image
from microkernel.testing import harness

from .conftest import MK, PATIENCE, Home


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def toolchain(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the build by writing a file at the guest's path. Returns the commands that would have run."""
    commands: list[str] = []

    def run(command: Sequence[str], folder: Path) -> None:
        commands.append(command[-1] if "componentize" in command else "compile")
        for target in (folder / "guest.wasm", folder / Image().path.name):
            target.write_bytes(b"built" * 1000)

    monkeypatch.setattr(image, "_run", run)
    return commands


def build_by_hand(content: bytes = b"guest") -> Path:
    built = Image()
    built.folder.mkdir(mode=0o700, parents=True)
    built.path.write_bytes(content)
    built.library.mkdir(exist_ok=True)
    built.path.with_suffix(".sha256").write_text(image._digest(built.path, built.library))
    return built.path


def test_it_builds_once_and_says_where(cache: Path, toolchain: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    wasm_prepare.prepare(Output("en"))
    said = capsys.readouterr()
    assert [line[:6] for line in said.err.splitlines()] == ["· 1/3 ", "· 2/3 ", "· 3/3 "]
    assert "✓ wasm  built in" in said.out
    assert str(cache / "microkernel" / "wasm") in said.out
    assert "KiB" in said.out
    assert "without a network" in said.out
    assert len(toolchain) == 2

    assert "until the version of microkernel, wasmtime or componentize-py changes" in said.out

    wasm_prepare.prepare(Output("zh"))
    again = capsys.readouterr()
    assert "已经构建过了" in again.out
    assert again.err == ""
    assert len(toolchain) == 2


def test_for_machines(cache: Path, toolchain: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for is_new in (True, False):
        wasm_prepare.prepare(Output("en", as_json=True))
        said = capsys.readouterr()
        data = json.loads(said.out)
        assert (data["built"], data["bytes"], data["path"]) == (is_new, 5000, str(Image().path))
        assert said.err == ""


def test_prepare_finds_an_existing_guest(home: Home, cache: Path) -> None:
    path = build_by_hand()
    done = home.mk("wasm", "prepare", XDG_CACHE_HOME=str(cache))
    assert "already built" in done.stdout
    assert str(path) in done.stdout
    assert done.stderr == ""
    assert "prepare" in home.mk("help", "wasm").stdout
    assert "COMMAND is missing; mk help wasm" in home.mk("wasm", code=2).stderr
    assert "guest built" in home.mk("doctor", XDG_CACHE_HOME=str(cache)).stdout


def test_doctor_says_how_to_build_it(home: Home, cache: Path) -> None:
    assert "guest not built yet (mk wasm prepare)" in home.mk("doctor", XDG_CACHE_HOME=str(cache)).stdout
    assert not cache.exists()


def test_a_damaged_guest_is_rebuilt_and_reported(
    cache: Path, toolchain: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    build_by_hand().write_bytes(b"other")
    wasm_prepare.prepare(Output("en"))
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "! the file does not match its checksum; rebuilding"
    assert "✓ wasm  built in" in said.out
    assert Image().path.read_bytes() == b"built" * 1000


def test_a_folder_that_others_may_write_is_refused(home: Home, cache: Path) -> None:
    build_by_hand().parent.chmod(0o770)
    assert "must belong to you alone" in home.mk("wasm", "prepare", code=1, XDG_CACHE_HOME=str(cache)).stderr
    assert re.search(
        r"wasm +no +MK0501 .* must belong to you alone", home.mk("doctor", XDG_CACHE_HOME=str(cache)).stdout
    )
    assert "必须只属于你" in home.mk("doctor", XDG_CACHE_HOME=str(cache), LANG="zh_CN.UTF-8").stdout


def test_an_unusable_cache_folder_is_an_error_that_names_the_variable(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "below")
    said = home.mk("wasm", "prepare", code=1, XDG_CACHE_HOME=nowhere).stderr
    assert "no place for the guest in" in said
    assert "Not a directory; XDG_CACHE_HOME names another" in said
    assert re.search(r"wasm +no +MK0501", home.mk("doctor", XDG_CACHE_HOME=nowhere).stdout)
    assert "另指一处" in home.mk("wasm", "prepare", code=1, XDG_CACHE_HOME=nowhere, LANG="zh_CN.UTF-8").stderr


@pytest.mark.parametrize("missing", ["wasmtime", "componentize_py"])
def test_prepare_without_the_extra_names_it(cache: Path, home: Home, missing: str) -> None:
    """In a Python that does not find the package."""
    hide = f"import sys; sys.modules[{missing!r}] = None; import importlib.util as u; find = u.find_spec; "
    hide += f"u.find_spec = lambda name, *a: None if name == {missing!r} else find(name, *a); "
    for args, code in ((["wasm", "prepare"], 1), (["doctor"], 0)):
        done = subprocess.run(
            [MK[0], "-c", hide + MK[2], *args], env={**home.env, "XDG_CACHE_HOME": str(cache)},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert 'MK0510  extra not installed: pip install "microkernel[wasm]"' in done.stdout + done.stderr


def _all_of(terminal: int) -> str:
    """Return all that was shown on a terminal whose other end is closed: it arrives in pieces, followed by an error."""
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    return shown.decode()


def test_on_a_terminal_there_is_a_bar(
    cache: Path, toolchain: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        wasm_prepare.prepare(Output("en"))
    shown = _all_of(ours)
    assert "building the guest" in shown
    assert "gathering" in shown or "compiling" in shown
    assert "━" in shown
    assert "built in" in capsys.readouterr().out


def test_waiting_for_another_build_is_reported(cache: Path) -> None:
    image = Image()
    build_by_hand()
    waits = threading.Event()
    with open(image.folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told: list[str] = []

        def tell(step: str) -> None:
            told.append(step)
            waits.set()

        other = threading.Thread(target=image.ensure, args=(tell,))
        other.start()
        assert waits.wait(PATIENCE)
    other.join(PATIENCE)
    assert told == ["wait"]


def test_a_kernel_that_builds_it_at_the_first_start_says_so(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build fails here, which makes it visible."""

    def run(command: Sequence[str], folder: Path) -> None:
        raise IsolationUnavailable("MK0501", level="wasm", reason="no compiler today")

    monkeypatch.setattr(image, "_run", run)
    (tmp_path / "guesty.py").write_text(harness.plugin(""))
    said: list[tuple[str, str]] = []

    def begin(kernel: Kernel) -> None:
        kernel.on("kernel.message", lambda id, plugin: said.append((id, plugin)), inline=True)

    kernel = Kernel(tmp_path / "guesty.py", KernelConfig(data_dir=str(tmp_path / "data")), isolation="wasm")
    try:
        kernel.open(begin)
        info: Any = kernel.info("guesty")
    finally:
        kernel.close()
    assert ("MK0511", "guesty") in said
    assert (info.state, info.error_id) == ("failed", "MK0501")
    assert "MK0512" not in [id for id, _ in said]


def test_checking_the_guest_does_not_count_as_building(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many plugins start at the same time, and other kernels need not wait while one compares checksums."""
    image, told = Image(), list[str]()
    build_by_hand()
    with open(image.folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        image.ensure(told.append)
    assert told == []


def test_a_kernel_reports_a_damaged_guest_and_rebuilds_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: Sequence[str], folder: Path) -> None:
        raise IsolationUnavailable("MK0501", level="wasm", reason="no compiler today")

    monkeypatch.setattr(image, "_run", run)
    build_by_hand().write_bytes(b"other")
    (tmp_path / "guesty.py").write_text(harness.plugin(""))
    said: list[str] = []
    kernel = Kernel(tmp_path / "guesty.py", KernelConfig(data_dir=str(tmp_path / "data")), isolation="wasm")
    try:
        kernel.open(lambda kernel: kernel.on("kernel.message", lambda id: said.append(id), inline=True))
        info: Any = kernel.info("guesty")
    finally:
        kernel.close()
    assert [id for id in said if id.startswith("MK051")] == ["MK0513"]
    assert (info.state, info.error_id) == ("failed", "MK0501")
