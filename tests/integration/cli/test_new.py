"""The file that `mk new` writes runs at every level, with the permissions it declares and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.cli.new import create
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import LEVELS, Level
from tests.harness.waiting import eventually


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("level", LEVELS)
def test_it_runs_at_every_level(level: Level, language: str, tmp_path: Path) -> None:
    path = create("hello", str(tmp_path / "plugins"), language)
    config = KernelConfig(data_dir=str(tmp_path / "data"), limits={"load": 30.0, "start": 30.0})
    with Kernel(path, config, isolation=level, grants={"hello": "declared"}) as kernel:
        info = kernel.info("hello")
        assert (info.state, info.isolation, info.error) == ("active", level, None)
        assert "Ann" in kernel.call("hello.greet", "Ann", timeout=30.0)
        eventually(lambda: kernel.get_data("hello.last") == "Ann")
        kernel.reload("hello")
        kernel.call("hello.greet", "Ann", timeout=30.0)
        assert kernel.info("hello").refused == 0
