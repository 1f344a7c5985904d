"""The plugins of the demo on a small tree: whatever crashes or hangs, the totals are those of a plain loop."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import Permissions

from .conftest import EXAMPLES, LONG

FOLDER = EXAMPLES / "stdlib_index"
FILES = 120
ODD = {
    "python2.py": b"import os\ndef f():\n    print 'TODO'  # TODO\nclass C: pass\n  from x import y\n",
    "null.py": b"import os\n\0\ndef f(): pass\n",
    "coding.py": b"# -*- coding: uft-8 -*-\nasync  def f(): pass\n",
    "latin.py": "# -*- coding: latin-1 -*-\nname = 'é'  # TODO\n".encode("latin-1"),
    "crlf.py": b"def f():\r\n    pass\r\n",
    "empty.py": b"",
    "noend.py": b"import os  # TODO",
    "nested.py": b"""
try:
    import a
except ImportError:
    from b import c
else:
    def f():
        match f:
            case 1:
                import d
            case _:
                class C:
                    async def g(self):
                        with g() as x:
                            lambda: 1
finally:
    for _ in ():
        pass
    else:
        import e
text = '''
import not_one  # TODO: though it looks like one
'''
""",
}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield import_module("plain")
    sys.modules.pop("plain")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for folder in ("", "package/inner", "site-packages/installed"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "site-packages" / "installed" / "not_ours.py").write_text("import os\n")
    (root / "package" / "data.txt").write_text("import os\n")
    for name, source in ODD.items():
        (root / "package" / name).write_bytes(source)
    for number in range(FILES - len(ODD)):
        source = "import os\n" * (number % 3) + f"def f{number}():  # TODO\n    pass\n" + "class C: pass\n" * number
        (root / "package" / "inner" / f"module{number}.py").write_text(source)
    return root


def config(root: Path, **levels: Any) -> KernelConfig:
    """A runaway and a crasher that misbehave early and often."""
    return KernelConfig(
        plugin={
            "walker": PluginConfig(config={"root": str(root), "at_once": False}, **levels),
            "aggregator": PluginConfig(**levels),
            "runaway": PluginConfig(config={"hangs": 2, "within": 2}, limits={"handler": 0.7}),
            "crasher": PluginConfig(config={"crashes": 3, "within": 2}),
        }
    )


def wait_for_all(kernel: Kernel) -> None:
    deadline = time.monotonic() + 2 * LONG
    while kernel.call("aggregator.progress", timeout=LONG)["counted"] < FILES:
        assert time.monotonic() < deadline, kernel.list()
        time.sleep(0.02)


@pytest.mark.parametrize("levels", ["thread", "process", "mixed"])
def test_totals_are_those_of_a_plain_count_whatever_dies(tree: Path, plain: Any, levels: str) -> None:
    expected = plain.plain_count(plain.python_files(str(tree)))
    operator = config(tree, isolation="thread") if levels == "mixed" else config(tree)
    with Kernel(FOLDER / "plugins", config=operator, isolation=None if levels == "mixed" else levels) as kernel:  # type: ignore[arg-type]
        at = {info.name: info.isolation for info in kernel.list()}
        if levels == "mixed":
            assert (at["walker"], at["aggregator"], at["crasher"]) == ("thread", "thread", "process")
        assert kernel.call("walker.walk", timeout=LONG) == FILES
        wait_for_all(kernel)
        assert kernel.call("aggregator.totals") == expected
        assert kernel.call("aggregator.missing") == []
        assert kernel.dead_letters() == []
        deaths = {info.name: info.restarts for info in kernel.list() if info.restarts}
        assert deaths == {"crasher": 3, "runaway": 2}

        kernel.reload("aggregator")
        assert kernel.call("aggregator.totals") == expected
        (path, functions), *_ = kernel.call("aggregator.top", 3, by="imports")
        assert (Path(path).name, functions) == ("nested.py", 4)


def test_a_parser_at_wasm_counts_the_same_and_hands_on_what_its_python_cannot_parse(tree: Path, plain: Any) -> None:
    """A guest's Python knows the same encodings, and has its own opinion of what is Python."""
    odd = tree / "package"
    (odd / "koi8.py").write_bytes("# -*- coding: koi8-r -*-\nname = 'да'\n".encode("koi8-r"))
    paths = sorted(map(str, odd.glob("*.py")))
    may = Permissions(emit=("file.counted", "file.found.a"), on=("file.found.b",), fs_read=(str(tree),))
    operator = KernelConfig(plugin={"parser_b": PluginConfig(isolation="wasm", permissions=may)})
    counted: dict[str, dict[str, int]] = {}
    handed: list[str] = []
    with Kernel([FOLDER / "plugins" / "aggregator.py", FOLDER / "plugins" / "parser_b"], config=operator) as kernel:
        assert kernel.info("parser_b").isolation == "wasm"
        kernel.on("file.counted", lambda path, counts: counted.update({path: counts}), inline=True)
        kernel.on("file.found.a", lambda path: handed.append(path), inline=True)
        for path in paths:
            kernel.emit("file.found.b", path=path)
        deadline = time.monotonic() + LONG
        while len(counted) + len(handed) < len(paths):
            assert time.monotonic() < deadline, (counted, handed)
            time.sleep(0.02)
    assert sorted(Path(path).name for path in handed) == ["coding.py", "null.py", "python2.py"]
    assert "koi8.py" in {Path(path).name for path in counted}
    for path, counts in counted.items():
        assert counts == {kind: plain.plain_count([path])[kind] for kind in counts}


def test_the_plain_count_is_right(tree: Path, plain: Any) -> None:
    """By hand, for the files that are hard; the demo compares with it."""

    def counted(name: str) -> dict[str, int]:
        counts = plain.plain_count([str(tree / "package" / name)])
        return {kind: count for kind, count in counts.items() if count and kind != "files"}

    assert counted("python2.py") == {
        "lines": 5, "functions": 1, "classes": 1, "imports": 2, "todos": 1, "unparsable": 1,
    }  # fmt: skip
    assert counted("null.py") == {"lines": 3, "functions": 1, "imports": 1, "unparsable": 1}
    assert counted("coding.py") == {"lines": 2, "functions": 1, "unparsable": 1}
    assert counted("latin.py") == {"lines": 2, "todos": 1}
    assert counted("crlf.py") == {"lines": 2, "functions": 1}
    assert counted("empty.py") == {}
    assert counted("noend.py") == {"imports": 1, "todos": 1}
    assert counted("nested.py") == {"lines": 23, "functions": 2, "classes": 1, "imports": 4, "todos": 1}
    assert len(plain.python_files(str(tree))) == FILES
