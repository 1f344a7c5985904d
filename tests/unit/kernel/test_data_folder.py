"""The folders that plugins keep their data in are their user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.kernel.manifest import Level

LEVELS: list[Level] = ["thread", "process"]
KEEPER = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def keep(self): (self.api.data_dir / "kept").write_text("kept")
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_data_folder_is_made_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "keeper.py").write_text(KEEPER, encoding="utf-8")
    before = os.umask(0o000)
    try:
        with Kernel(tmp_path / "plugins", isolation=level) as kernel:
            kernel.call("keeper.keep")
    finally:
        os.umask(before)
    made = [tmp_path / "state", *(each for each in (tmp_path / "state").rglob("*") if each.is_dir())]
    assert len(made) == 4
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o700}
