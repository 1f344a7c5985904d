"""The configuration file is read again when a plugin is started or reloaded, and applies to instances started then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import ConfigError, ReloadFailed
from microkernel.kernel.config import KernelConfig
from microkernel.testing import harness


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its own working folder, so that nobody can take a path for an absolute one."""
    (tmp_path / "plugins").mkdir()
    for name in ("a", "b"):
        (tmp_path / "plugins" / f"{name}.py").write_text(harness.plugin(""))
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "")
    return tmp_path


@pytest.fixture
def kernel(folder: Path) -> Iterator[Kernel]:
    with Kernel(config="microkernel.toml") as running:
        yield running


def write(folder: Path, tables: str) -> None:
    (folder / "microkernel.toml").write_text(f'plugins = ["plugins"]\ndata_dir = "data"\n{tables}')


THREAD = '[plugin.a]\nisolation = "thread"\n'


def test_reload_applies_the_new_level_to_this_plugin_only(folder: Path, kernel: Kernel) -> None:
    pid = kernel.info("b").pid
    write(folder, 'isolation = "thread"\nmin_isolation = "thread"\n')
    kernel.reload("a")
    assert (kernel.info("a").isolation, kernel.info("b").isolation, kernel.info("b").pid) == ("thread", "process", pid)


def test_start_applies_the_new_level(folder: Path, kernel: Kernel) -> None:
    kernel.stop("a")
    write(folder, THREAD)
    assert kernel.start("a").isolation == "thread"


def test_configuration_is_found_after_the_working_directory_changed(
    folder: Path, kernel: Kernel, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, THREAD)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    kernel.reload("a")
    assert kernel.info("a").isolation == "thread"


def test_invalid_configuration_changes_nothing(folder: Path, kernel: Kernel) -> None:
    pid = kernel.info("a").pid
    write(folder, '[plugin.a]\nisolatoin = "thread"\n')
    with pytest.raises(ReloadFailed, match=r"MK0109 .*isolatoin"):
        kernel.reload("a")
    assert (kernel.info("a").state, kernel.info("a").pid) == ("active", pid)
    kernel.stop("b")
    with pytest.raises(ConfigError, match="isolatoin"):
        kernel.start("b")
    write(folder, THREAD)
    assert kernel.start("b").state == "active"


def test_configuration_object_is_not_read_from_disk(folder: Path) -> None:
    with Kernel("plugins", KernelConfig(data_dir=str(folder / "data"))) as kernel:
        write(folder, THREAD)
        kernel.reload("a")
        assert kernel.info("a").isolation == "process"
