"""The data folder is the same at every level, however the program named it."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.kernel.manifest import LEVELS, KernelConfig, Level
from microkernel.testing import stage

WRITER = stage.plugin("""
    def start(self) -> None:
        (self.api.data_dir / "kept").write_text(self.api.isolation)
""")


@pytest.mark.parametrize("level", LEVELS)
def test_a_relative_one_is_meant_from_where_the_kernel_is(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "writer.py").write_text(WRITER)
    config = KernelConfig(data_dir="data", limits={"load": 30.0, "start": 30.0})
    with Kernel("writer.py", config, isolation=level) as kernel:
        assert (kernel.info("writer").state, kernel.info("writer").error) == ("active", None)
    assert (tmp_path / "data" / "writer" / "kept").read_text() == level
