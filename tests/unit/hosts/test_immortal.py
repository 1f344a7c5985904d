"""The objects of the zygote are immortal, where the interpreter knows this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.worker.zygote import immortal

supported = pytest.mark.skipif(not immortal.is_supported(), reason="not in this version of Python")

PROGRAM = """
import gc, json, sys, weakref
from microkernel.sdk.plugin import IPlugin
from microkernel.worker.zygote.immortal import make_all_immortal

def constants():
    return ("a constant", 1 << 70, ("within", 1.5))
number = make_all_immortal()
IMMORTAL = 0xFFFFFFFF
is_immortal = lambda each: sys.getrefcount(each) == IMMORTAL
assert number > 10_000
assert all(map(is_immortal, (json, IPlugin, IPlugin.__dict__["start"], constants, constants.__code__, gc.get_objects)))
assert all(map(is_immortal, (*constants(), *constants.__code__.co_names, sys.path)))

class New:
    pass
new = New()
ref, made = weakref.ref(new), [New() for _ in range(1000)]
assert not is_immortal(New), "it was made later"
new.itself = new
del new, made
gc.collect()
assert ref() is None
for _ in range(100_000):
    constants()
assert all(map(is_immortal, constants()))
sys.path.append("a new folder")
del sys.modules["json"], json
gc.freeze(), gc.collect(), gc.unfreeze(), gc.collect()
import json
assert json.loads(json.dumps({"a": [1, 2]})) == {"a": [1, 2]}
print("done", flush=True)
"""


@supported
def test_all_that_is_loaded_becomes_immortal_and_works_as_before() -> None:
    done = subprocess.run([sys.executable, "-X", "dev", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout, done.returncode) == ("", "done\n", 0)


PLUGIN = """
import json, sys
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): ...
    def stop(self): ...
    @expose
    def counts(self) -> list:
        return [sys.getrefcount(each) for each in (sys, IPlugin, IPlugin.start.__code__, sys.modules, sys.path)]
"""


@supported
@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_a_worker_has_the_zygotes_objects_as_immortal_ones(level: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(PLUGIN)
    with Kernel(tmp_path, isolation=level) as kernel:
        assert {*kernel.call("one.counts")} == {0xFFFFFFFF}


@pytest.mark.parametrize(
    ("name", "value"), [("version_info", (3, 11, 7)), ("version_info", (3, 14, 0)), ("maxsize", (1 << 31) - 1)]
)
def test_unknown_layouts_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(sys, name, value)
    assert not immortal.is_supported()
    with pytest.raises(RuntimeError, match="layout"):
        immortal.make_all_immortal()
