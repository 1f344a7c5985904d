"""The contract of a Host, at every level that is built; and that a level changes nothing a plugin can see."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel.kernel.manifest import Level
from microkernel.testing import HOST_CHECKS

LEVELS: tuple[Level, ...] = ("thread", "process", "sandbox", "wasm")
PAIRS = [(level, name) for level in LEVELS for name, check in HOST_CHECKS.items() if level in check.levels]


@pytest.mark.parametrize(("level", "name"), PAIRS, ids=[f"{level}-{name}" for level, name in PAIRS])
def test_contract(level: Level, name: str, tmp_path: Path) -> None:
    HOST_CHECKS[name](level, tmp_path)


@pytest.mark.parametrize("name", [name for level, name in PAIRS if level == "process"])
def test_contract_with_direct_channels(name: str, tmp_path: Path) -> None:
    """Plugins get a direct channel after their first call. In ``test_contract`` few make enough calls for one."""
    HOST_CHECKS[name]("process", tmp_path, direct_after=1)
