"""The data folder is the same at every level, however the program names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import LEVELS, Level
from microkernel.testing import harness

WRITER = harness.plugin("""
    def start(self) -> None:
        (self.api.data_dir / "kept").write_text(self.api.isolation)
""")


@pytest.mark.parametrize("level", LEVELS)
def test_a_relative_data_folder_is_relative_to_the_kernels_folder(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "writer.py").write_text(WRITER)
    config = KernelConfig(data_dir="data", limits={"load": 30.0, "start": 30.0})
    with Kernel("writer.py", config, isolation=level) as kernel:
        assert (kernel.info("writer").state, kernel.info("writer").error) == ("active", None)
    assert (tmp_path / "data" / "writer" / "kept").read_text() == level


ASKER = harness.plugin("""
    @expose
    def may_write(self) -> bool:
        import os
        (self.api.data_dir / "kept").write_text("")
        return os.access(self.api.data_dir / "kept", os.W_OK)
""")


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_access_reports_the_data_folder_as_writable(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holds even if another level has created the folders above, or the folder itself."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tmp_path.chmod(0o755)
    (tmp_path / "asker.py").write_text(ASKER)
    for first in ("process", level):
        with Kernel(tmp_path / "asker.py", isolation=first, name="mine") as kernel:
            assert kernel.call("asker.may_write", timeout=30)
