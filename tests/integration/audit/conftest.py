from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.security.attacks.support import Plugins


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(tmp_path / "plugins")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A library that thread plugins import, and that outlives them."""
    source = "SEEN = []\nBOARD = {}\nclass Box:\n    pass\nBOX = Box()\nLAST = None\n"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shared_things.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    import shared_things  # type: ignore[import-not-found]

    yield shared_things
    del sys.modules["shared_things"]
