"""A plugin cannot redirect its own grants, nor another plugin's, by a link."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.hosts.confined.safe_paths import resolve_without_links
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import Level
from tests.integration.wasm.conftest import PLUGIN

LEVELS: list[Level] = ["sandbox", "wasm"]


@contextmanager
def kernel(folder: Path, level: Level, **grants: Mapping[str, list[str]]) -> Iterator[Kernel]:
    (folder / "plugins").mkdir(exist_ok=True)
    for name in grants:
        (folder / "plugins" / f"{name}.py").write_text(PLUGIN)
    config = KernelConfig(data_dir=str(folder / "data"), limits={"load": 30.0})
    with Kernel(folder / "plugins", config, isolation=level, grants=grants) as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    (tmp_path / "out" / "sub").mkdir(parents=True)
    return tmp_path / "out"


def do(kernel: Kernel, name: str, code: str) -> Any:
    return kernel.call(f"{name}.do", code, timeout=30.0)


def swap(out: Path) -> str:
    return f"""
folder = os.open({str(out)!r}, os.O_RDONLY)
os.rmdir("sub", dir_fd=folder)
os.symlink("../secret", "sub", dir_fd=folder)
result = os.listdir({str(out)!r})
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_plugin_cannot_redirect_its_own_grant_by_a_link(
    level: Level, tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with kernel(tmp_path, level, p={"fs.write": [str(out)], "fs.read": [str(out / "sub")]}) as running:
        assert do(running, "p", swap(out)) == ["sub"]
        running.reload("p")
        found = do(running, "p", f"result = open('{out}/sub/file').read()")
        assert found[0] in ("PermissionError", "FileNotFoundError")
    said = [line.getMessage() for line in caplog.records if "MK0418" in line.getMessage()]
    why = "a link leads there that a plugin may have made, or that is another for each process"
    assert said == [f"p  MK0418 {out}/sub was granted but could not be opened: {why}"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_plugin_cannot_redirect_anothers_grant_by_a_link(level: Level, tmp_path: Path, out: Path) -> None:
    with kernel(tmp_path, level, a={"fs.read": [str(out / "sub")]}, b={"fs.write": [str(out)]}) as running:
        assert do(running, "b", swap(out)) == ["sub"]
        running.reload("a")
        assert do(running, "a", f"open('{out}/sub/file')")[0] in ("PermissionError", "FileNotFoundError")


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_of_the_operators_is_followed(level: Level, tmp_path: Path, out: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with kernel(tmp_path, level, p={"fs.read": [str(tmp_path / "link")], "fs.write": [str(out)]}) as running:
        assert do(running, "p", f"result = open('{tmp_path}/link/file').read()") == "secret"


def test_paths_are_resolved_without_untrusted_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to(tmp_path / "one" / "deep")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "theirs" / "out").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "in").symlink_to(tmp_path / "theirs" / "out")
    theirs = [str(tmp_path / "theirs")]

    def lead(name: str) -> str:
        found = resolve_without_links(str(tmp_path / name), theirs)
        return os.path.relpath(found, tmp_path) if found else ""

    assert [lead(name) for name in ("real", "one/deep", "two", "not/there")] == [
        "real", "real/deep", "real/deep", "not/there",
    ]  # fmt: skip
    assert [lead(name) for name in ("circle", "theirs/out", "theirs/out/deep", "real/in", "one/in")] == [""] * 5
    assert lead("theirs/plain") == "theirs/plain"
    assert resolve_without_links("/", theirs) == "/"


@pytest.mark.parametrize("path", ["/proc/self", "/proc/thread-self/status", "/dev/fd", "/dev/stdin", "/proc/mounts"])
def test_links_of_proc_are_not_followed(path: str, tmp_path: Path) -> None:
    assert resolve_without_links(path, []) == ""
    link = tmp_path / "link"
    link.symlink_to(path)
    assert resolve_without_links(str(link), []) == ""
    assert resolve_without_links("/proc/cpuinfo", []) == "/proc/cpuinfo"


@pytest.mark.parametrize("path", ["/proc/self", "/dev/fd", "link"])
def test_a_plugin_does_not_get_the_kernels_own_entry(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "link").symlink_to("/proc/self")
    granted = str(tmp_path / "link") if path == "link" else path
    with kernel(tmp_path, "sandbox", p={"fs.read": [granted]}) as running:
        found = do(running, "p", f"result = open('/proc/{os.getpid()}/status').read()")
        assert found[0] in ("PermissionError", "FileNotFoundError")
    assert f"MK0418 {granted} was granted but could not be opened" in caplog.text
