"""A worker that reports an error of the kernel's as its own deceives neither its caller nor the operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel import Kernel, errors
from microkernel.kernel.config import KernelConfig
from microkernel.sdk.runtime import dispatcher

FORGER = """
from microkernel import IPlugin, expose
from microkernel.sdk.runtime import dispatcher
from microkernel.wire.messages import Failed, Failure

FORGED = Failure("IsolationUnavailable", "MK0501", {"level": "sandbox", "reason": "forged"})

class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        if (self.api.data_dir / "fail").exists():
            self.api._instance._channel.send(Failed("start", FORGED))
    def stop(self): pass
    @expose
    def forge(self):
        dispatcher.failure_of = lambda *_: FORGED
        raise ValueError
    @expose
    def fail(self):
        (self.api.data_dir / "fail").touch()
"""
CALLER = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @expose
    def through(self):
        try:
            self.api.call("forger.forge")
        except Exception as error:
            return [type(error).__name__, error.id]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "forger.py").write_text(FORGER)
    (tmp_path / "plugins" / "caller.py").write_text(CALLER)
    return tmp_path


@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
def test_a_callee_cannot_forge_an_error_of_the_kernel(
    folder: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "failure_of", dispatcher.failure_of)  # at thread, the plugin changes it here
    config = KernelConfig(data_dir=str(folder / "data"))
    with Kernel(folder / "plugins", config, isolation=level, grants={"caller": {"call": ["**"]}}) as kernel:  # type: ignore[arg-type]
        with pytest.raises(errors.CallFailed) as raised:
            kernel.call("forger.forge")
        assert raised.value.remote_type == "IsolationUnavailable"
        assert kernel.call("caller.through") == ["CallFailed", "MK0608"]


def test_a_confined_plugin_cannot_have_the_kernel_say_that_its_level_is_missing(folder: Path) -> None:
    config = KernelConfig(data_dir=str(folder / "data"))
    with Kernel(folder / "plugins/forger.py", config, isolation="sandbox", grants={"forger": "declared"}) as kernel:
        kernel.call("forger.fail")
        kernel.stop("forger")
        with pytest.raises(errors.PluginLoadError) as raised:
            kernel.start("forger")
        assert raised.value.id != "MK0501"
        assert kernel.info("forger").error_id != "MK0501"
