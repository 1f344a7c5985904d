"""A manifest that sets its own limits, in a kernel. The level is confined by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.kernel.admission.limit_bounds import KEPT_WHEN_CONFINED
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import Limits, Supervision
from microkernel.kernel.operations import plugin_set
from microkernel.loader.lock import LockFile
from tests.confined import pretend

CODE = """
from microkernel import IPlugin
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
"""
GREEDY = """# /// script
# [tool.microkernel]
# limits = {memory = "1000GiB", threads = 90000, disk = "1000GiB", stop = 0, load = 0, heartbeat = 1e-6}
# supervision = {intensity = 1000000000, backoff = 0}
# ///
"""


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "greedy.py").write_text(GREEDY + CODE, encoding="utf-8")
    return tmp_path / "plugins"


def limits_in_force(kernel: Kernel) -> tuple[Limits, Supervision]:
    record = kernel.core.registry.get("greedy")
    assert record.state == "active"
    assert record.instance is not None
    assert record.instance.manifest.limits == record.manifest.limits
    return record.manifest.limits, record.manifest.supervision


def test_unapproved_limits_fall_back_to_the_defaults_and_are_reported(
    plugins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "microkernel"), Kernel(plugins, isolation="sandbox") as kernel:
        limits, supervision = limits_in_force(kernel)
        assert limits == Limits(memory=512 << 20, threads=64, disk=1024 << 20, heartbeat=0.25, **KEPT_WHEN_CONFINED)
        assert supervision == Supervision()
        assert "limits memory 1000GiB" in kernel.review("greedy").added
    said = [line.getMessage() for line in caplog.records if "MK0422" in line.getMessage()]
    assert len(said) == 1
    assert "memory 1000GiB" in said[0]
    assert "mk approve greedy" in said[0]


def test_approved_limits_apply_within_the_ceilings_and_are_remembered(plugins: Path, tmp_path: Path) -> None:
    lock = tmp_path / "microkernel.lock"
    with Kernel(plugins, isolation="sandbox", lock=lock) as kernel:
        assert kernel.approve("greedy").generation == 2
        assert limits_in_force(kernel)[0].memory == 1000 << 30
    assert "memory 1000GiB" in (LockFile(str(lock)).read()["greedy"].permissions.limits or ())
    with Kernel(plugins, isolation="sandbox", lock=lock) as kernel:
        limits, supervision = limits_in_force(kernel)
        assert kernel.review("greedy").is_fine
    assert (limits.memory, limits.threads, limits.stop, supervision.intensity) == (1000 << 30, 90_000, 30.0, 1000)


def test_approved_limit_does_not_cover_a_higher_one(plugins: Path, tmp_path: Path) -> None:
    path, lock = plugins / "greedy.py", tmp_path / "microkernel.lock"
    path.write_text(GREEDY.replace("1000GiB", "1GiB") + CODE, encoding="utf-8")
    with Kernel(plugins, isolation="sandbox", lock=lock) as kernel:
        kernel.approve("greedy")
        newer = GREEDY.replace("limits", 'version = "2"\n# limits')
        path.write_text(newer + CODE, encoding="utf-8")
        kernel.reload("greedy")
        assert limits_in_force(kernel)[0].memory == 1 << 30
        assert kernel.review("greedy").added[0] == "limits memory 1000GiB"


def test_declared_grants_the_limits_too(plugins: Path) -> None:
    with Kernel(plugins, isolation="sandbox", grants={"greedy": "declared"}) as kernel:
        assert limits_in_force(kernel)[0].memory == 1000 << 30


def test_the_operator_sets_any_value(plugins: Path) -> None:
    own = PluginConfig(limits={"stop": 100.0, "memory": 0}, supervision={"intensity": 10**6})
    with Kernel(plugins, KernelConfig(plugin={"greedy": own}), isolation="sandbox") as kernel:
        limits, supervision = limits_in_force(kernel)
        assert (limits.stop, limits.memory, supervision.intensity, supervision.backoff) == (100.0, 0, 10**6, 0.1)


def test_at_process_a_manifest_has_bounds(plugins: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "microkernel"), Kernel(plugins, isolation="process") as kernel:
        limits, supervision = limits_in_force(kernel)
    assert (limits.stop, limits.load, limits.heartbeat, supervision.backoff) == (30.0, 30.0, 0.25, 0.01)
    assert "its manifest sets stop none, outside the bounds for manifests; 30 is used" in caplog.text


def test_open_does_not_wait_forever_for_a_restart_loop(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_set, "_RESTARTS_AWAITED", 0.3)
    dying = GREEDY.replace("backoff = 0", "backoff = 1000, backoff_max = 1000")
    code = CODE.replace("def start(self): pass", "def start(self): __import__('os')._exit(3)")
    (plugins / "greedy.py").write_text(dying + code, encoding="utf-8")
    with Kernel(plugins, isolation="process") as kernel:
        assert kernel.info("greedy").state == "backoff"
