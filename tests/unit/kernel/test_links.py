"""A plugin's links that leave its folder, in a kernel. The level is confined by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from tests.confined import pretend

CODE = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def found(self):
        from . import a
        return a.KEY
"""


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins" / "p"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(CODE)
    (tmp_path / "secret").write_text("KEY = 'AKIA-SECRET'\n")
    (folder / "a.py").symlink_to(tmp_path / "secret")
    return tmp_path / "plugins"


def test_confined_plugin_with_an_outside_link_fails_and_names_it(plugins: Path) -> None:
    with Kernel(plugins, isolation="sandbox") as kernel:
        info = kernel.info("p")
        assert (info.state, info.error_id, info.generation) == ("failed", "MK0137", 0)
        assert "p/a.py" in str(info.error)


def test_process_plugin_with_an_outside_link_runs_with_one_notice(
    plugins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "microkernel"), Kernel(plugins, isolation="process") as kernel:
        assert kernel.call("p.found") == "AKIA-SECRET"
        kernel.reload("p")
    assert [line.getMessage().count("p/a.py") for line in caplog.records if "MK0156" in line.getMessage()] == [1]


def test_reload_that_adds_an_outside_link_is_refused(plugins: Path, tmp_path: Path) -> None:
    link = plugins / "p" / "a.py"
    link.unlink()
    link.write_text("KEY = 1\n")
    with Kernel(plugins, isolation="sandbox") as kernel:
        assert kernel.call("p.found") == 1
        link.unlink()
        link.symlink_to(tmp_path / "secret")
        with pytest.raises(Exception, match="MK0137"):
            kernel.reload("p")
        with pytest.raises(Exception, match="MK0137"):
            kernel.review("p")
        assert kernel.call("p.found") == 1
