"""Places that cannot contain a plugin are refused before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.errors import ConfigError

PLUGIN = "from microkernel import IPlugin\nclass Plugin(IPlugin):\n    def start(self): ...\n    def stop(self): ...\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(
    "place", ["nothere/", "nothere", "nothere.py", "deep/er.py", "", "a\0b", "entry-point:nobody-has-it"]
)
def test_a_place_that_is_not_there_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(PLUGIN)
    for places in place, [place], ["good.py", place]:
        with pytest.raises(ConfigError) as refused:
            Kernel(places)
        assert refused.value.id == "MK0101"
    with pytest.raises(ConfigError) as refused:
        Kernel(config=KernelConfig(plugins=(place,)))
    assert refused.value.id == ("MK0101" if place else "MK0110")


@pytest.mark.parametrize("place", ["README.md", "plugin", "/dev/null"])
def test_a_file_that_is_not_source_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Plugin")
    (tmp_path / "plugin").write_text(PLUGIN)
    with pytest.raises(ConfigError) as refused:
        Kernel(place)
    assert refused.value.id == "MK0131"
    assert place in refused.value.text


def test_a_place_of_a_configuration_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "microkernel.toml").write_text('plugins = ["nothere"]\n')
    with pytest.raises(ConfigError, match="MK0101"):
        Kernel(config="microkernel.toml")


def test_a_place_that_has_gone_before_it_is_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    kernel = Kernel("plugins")
    os.rmdir("plugins")
    with pytest.raises(ConfigError, match="MK0101"), kernel:
        pass


def test_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    with Kernel("plugins/") as kernel:
        assert kernel.list() == []
