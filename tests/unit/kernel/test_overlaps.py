"""No confined plugin writes where the kernel finds its plugins, its lock or its configuration. The level is confined by
its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.errors import ConfigError, PluginLoadError
from microkernel.kernel.admission.writable_overlaps import exposed
from tests.confined import pretend

CODE = """
from microkernel import IPlugin
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
"""


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins" / "package").mkdir(parents=True)
    for name in ("p.py", "package/__init__.py"):
        (tmp_path / "plugins" / name).write_text(CODE)
    return tmp_path / "plugins"


@pytest.mark.parametrize(
    "data", ["plugins", "plugins/.", "plugins/data", "plugins/package", "plugins/package/data", "alias", "alias/data"]
)
@pytest.mark.parametrize("level", ["sandbox", "process"])
def test_a_data_folder_where_plugins_are_found_is_refused(plugins: Path, tmp_path: Path, data: str, level: str) -> None:
    (tmp_path / "alias").symlink_to(plugins)
    kernel = Kernel(plugins, KernelConfig(data_dir=str(tmp_path / data)), isolation=level)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="MK0724"):
        kernel.open()
    kernel.close()


def test_default_data_folder_inside_a_plugin_is_refused(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(plugins / "package"))
    with pytest.raises(ConfigError, match="MK0724"), Kernel(plugins):
        pass


def test_default_data_folder_may_be_next_to_the_plugins(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may have its state below its folder of plugins; a plugin writes two folders further down."""
    monkeypatch.setenv("XDG_STATE_HOME", str(plugins / "state"))
    with Kernel(plugins, isolation="sandbox") as kernel:
        assert kernel.info("p").state == "active"


def test_confined_plugin_cannot_have_the_plugins_folder_as_data_folder(plugins: Path) -> None:
    """The data folder of the kernel is around that of plugins; so is a plugin's own."""
    (plugins / "other.py").write_text("# /// script\n# [tool.microkernel]\n# name = 'plugins'\n# ///\n" + CODE)
    config = KernelConfig(data_dir=str(plugins.parent))
    with Kernel(plugins, config, isolation="sandbox") as kernel:
        assert (kernel.info("plugins").state, kernel.info("plugins").error_id) == ("failed", "MK0158")
        assert kernel.info("p").state == "active"
    with Kernel(plugins, config, isolation="process") as kernel:
        assert kernel.info("plugins").state == "active"


def test_plugin_loaded_later_around_the_data_folder_is_refused(plugins: Path, tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").write_text(CODE)
    config = KernelConfig(data_dir=str(tmp_path / "late" / "data"))
    with Kernel(config=config, isolation="sandbox") as kernel, pytest.raises(PluginLoadError, match="MK0158"):
        kernel.load(tmp_path / "late")


@pytest.mark.parametrize(
    "what", ["plugins", ".", "microkernel.lock", "microkernel.toml", "plugins/package", "plugins/new"]
)
def test_write_grant_that_reaches_the_kernels_files_is_reported(
    plugins: Path, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / what).removesuffix("/.")
    manifest = f"# /// script\n# [tool.microkernel.permissions]\n# 'fs.write' = [{path!r}]\n# ///\n"
    (plugins / "p.py").write_text(manifest + CODE)
    config, lock = tmp_path / "microkernel.toml", tmp_path / "microkernel.lock"
    own = f'[plugin.p]\npermissions = {{ "fs.write" = [{path!r}] }}\n'
    config.write_text(f'plugins = ["plugins"]\ndata_dir = "data"\n{own}')
    lock.write_text("format = 1\n")
    with caplog.at_level("WARNING", "microkernel"), Kernel(config=config, lock=lock, isolation="sandbox") as kernel:
        assert kernel.info("p").state == "active"
    assert [line.getMessage() for line in caplog.records if "MK0425" in line.getMessage()]


def test_write_grant_elsewhere_is_not_reported(plugins: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "out")
    manifest = f"# /// script\n# [tool.microkernel.permissions]\n# 'fs.write' = [{path!r}]\n# ///\n"
    (plugins / "p.py").write_text(manifest + CODE)
    with caplog.at_level("WARNING", "microkernel"), Kernel(plugins, isolation="sandbox", grants={"p": "declared"}):
        pass
    assert "MK0425" not in caplog.text


@pytest.mark.parametrize(
    ("folder", "found"),
    [("/a/plugins", True), ("/a", True), ("/a/plugins/p", True), ("/a/plugins/data/p", False), ("/a/plugins2", False),
     ("/b/one", True), ("/b/one/deep", True), ("/b", True), ("/b/one2", False), ("/", True)],
)  # fmt: skip
def test_exposed_finds_folders_that_a_write_could_change(folder: str, found: bool) -> None:
    assert bool(exposed(folder, ["/a/plugins"], ["/b/one"])) is found
