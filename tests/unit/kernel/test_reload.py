"""How a reload that was not taken names the two sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import ReloadFailed
from microkernel.messages import Catalog

SOURCE = """
from microkernel import IPlugin
class Plugin(IPlugin):
    def start(self): {start}
    def stop(self): pass
"""


def source(version: str, start: str = "pass") -> str:
    block = f'# /// script\n# [tool.microkernel]\n# version = "{version}"\n# ///\n' if version else ""
    return block + SOURCE.replace("{start}", start)


def told(folder: Path, old: str, new: str) -> list[str]:
    """What is said of a reload of ``old`` that fails, in both languages."""
    path = folder / "p.py"
    path.write_text(source(old))
    with Kernel(path, isolation="thread") as kernel:
        path.write_text(new)
        with pytest.raises(ReloadFailed) as refused:
            kernel.reload("p")
    return [Catalog.load(language).text("MK0305", refused.value.fields) for language in ("en", "zh")]


def test_versions_that_differ_are_named(tmp_path: Path) -> None:
    english, chinese = told(tmp_path, "1.2", source("1.3", "{}['x']"))
    assert english.startswith(
        "1.3 was not accepted: MK0201 start() raised KeyError: 'x' (p.py:8 in start). 1.2 continues"
    )
    said = "1.3 没有被采用，原因是 MK0201 start() 抛出 KeyError：'x'（p.py 第 8 行，start）。"
    assert chinese.startswith(f"{said}1.2 继续运行，")


def test_equal_versions_are_not_named(tmp_path: Path) -> None:
    english, chinese = told(tmp_path, "1.0", source("1.0", "{}['x']"))
    assert english.startswith("the reload was not accepted: MK0201")
    assert "The old source continues with its state" in english
    assert chinese.startswith("这次重载没有被采用，原因是 MK0201 start() 抛出 KeyError")
    assert "旧源码继续运行，状态" in chinese


def test_an_unknown_version_is_not_named(tmp_path: Path) -> None:
    english, chinese = told(tmp_path, "1.2", "class Plugin(:\n")
    assert english.startswith("the reload was not accepted: MK0103")
    assert "1.2 continues" in english
    assert "第 1 行：语法错误，" in chinese


def test_failed_rollback_is_not_reported_as_running(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(
        source("1.0")
        + """
    def export_state(self): return 1
    def import_state(self, state, from_version): raise ValueError(state)
"""
    )
    with Kernel(path, isolation="thread") as kernel:
        with pytest.raises(ReloadFailed) as refused:
            kernel.reload("p")
        assert kernel.info("p").state == "failed"
    assert refused.value.id == "MK0310"
    assert "The old source could not be started again: it is failed" in str(refused.value)
    assert "旧源码也无法重新启动，状态是“失败”" in Catalog.load("zh").text("MK0310", refused.value.fields)
