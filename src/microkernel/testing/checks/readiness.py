"""Plugins that are not ready yet, plugins that require them, and plugins that want them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from microkernel.errors import PluginNotActive, ReloadFailed
from microkernel.testing.harness import Workspace, expect_error, plugin

# Not ready while the folder of the plugin's data has no file "ready"; each attempt is a line in "attempts".
WAITER = """
    def start(self) -> None:
        self.api.data_dir.mkdir(parents=True, exist_ok=True)
        with open(self.api.data_dir / "attempts", "a") as file:
            file.write(f"{time.time()}\\n")
        if not (self.api.data_dir / "ready").exists():
            raise NotReady(%s)
    @on("work")
    def work(self, n: int) -> None:
        self.api.emit("out.worked", n=n)
    @expose
    def ping(self) -> str:
        return "pong"
"""
_HEAD = "import time\nfrom microkernel import NotReady"


def _waiter(arguments: str, manifest: str = "") -> str:
    return plugin(WAITER % arguments, head=_HEAD, manifest=manifest)


def _data(workspace: Workspace) -> Path:
    return workspace.folder / "data" / "p"


def check_a_plugin_that_is_not_ready_waits(workspace: Workspace) -> None:
    """NotReady in ``start`` is the state ``waiting``, shown with its reason and the next start. Opening does not wait
    for it. Calls are refused, events wait. No restart is charged."""
    arguments = 'retry_after=0.3, reason="db is down"'
    with workspace.run(p=_waiter(arguments), q=plugin("@expose\ndef ping(self): return 1")) as harness:
        info = harness.info("p")
        assert (info.state, info.error_id) == ("waiting", "MK0227")
        assert "db is down" in (info.error or "")
        assert info.next_start is not None
        assert 0.0 <= info.next_start <= 0.3
        assert expect_error(PluginNotActive, harness.call, "p.ping").state == "waiting"
        harness.kernel.emit("work", n=1)
        folder = _data(workspace)
        harness.until(lambda: len((folder / "attempts").read_text().splitlines()) >= 3, "a third attempt")
        harness.kernel.emit("work", n=2)
        (folder / "ready").touch()
        assert harness.received("worked", 2) == [{"n": 1}, {"n": 2}]
        info = harness.until_state("p", "active")
        assert (info.error, info.restarts, info.next_start) == (None, 0, None)
        times = [float(line) for line in (folder / "attempts").read_text().split()]
        assert all(later - earlier >= 0.3 for earlier, later in pairwise(times))


def check_those_who_require_it_wait_too(workspace: Workspace) -> None:
    """A plugin that requires one which is not ready waits, and starts when that is active. One that wants it starts
    without it, and so does one that wants a plugin which is not there."""
    sources = {
        "p": _waiter("retry_after=0.2"),
        "after": plugin("@expose\ndef ping(self): return 1", manifest='requires = ["p"]'),
        "wanting": plugin("@expose\ndef ping(self): return 1", manifest='wants = ["p>=0", "nowhere>=2"]'),
    }
    with workspace.run(**sources) as harness:
        assert [harness.info(name).state for name in ("p", "after", "wanting")] == ["waiting", "waiting", "active"]
        assert harness.info("after").error_id == "MK0228"
        (_data(workspace) / "ready").touch()
        harness.until_state("after", "active")
        assert harness.info("p").state == "active"


def check_a_waiting_plugin_can_be_started_stopped_and_killed(workspace: Workspace) -> None:
    """``start`` tries again at once, and returns although the plugin is still not ready; ``stop`` and ``kill`` end the
    attempts."""
    with workspace.run(p=_waiter("retry_after=600")) as harness:
        assert harness.kernel.start("p").state == "waiting"
        assert harness.kernel.stop("p").state == "stopped"
        assert harness.kernel.start("p").state == "waiting"
        assert harness.kernel.kill("p").state == "stopped"
        (_data(workspace) / "ready").touch()
        assert harness.kernel.start("p").state == "active"


def check_a_reload_that_is_not_ready_has_failed(workspace: Workspace) -> None:
    """The old source continues."""
    with workspace.run(p=plugin('@expose\ndef ping(self): return "old"')) as harness:
        workspace.write("p", _waiter("retry_after=0.2"))
        error = expect_error(ReloadFailed, harness.kernel.reload, "p")
        assert "not ready" in error.text
        assert (harness.info("p").state, harness.call("p.ping")) == ("active", "old")
