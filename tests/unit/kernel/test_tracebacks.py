"""What plugin code raises is in the plugin's log with its traceback, and in the dead letter where there is one: cut to
the plugin's files, at every level."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import KernelError
from microkernel.kernel.manifest import Level
from microkernel.sdk.failures import failure_of
from microkernel.wire.secrets import Secrets
from tests.harness.waiting import eventually

LEVELS: list[Level] = ["thread", "process"]
PLUGIN = """
import asyncio, json
from microkernel import IPlugin, every, expose, on

def helper(who):
    try:
        json.loads("{")
    except ValueError as error:
        raise KeyError(who) from error

class Plugin(IPlugin):
    ending = ""
    def start(self): pass
    def stop(self):
        if self.ending: helper("stop")
    def export_state(self):
        if self.ending == "export": helper("export")
    @on("trace.event")
    def event(self): helper("event")
    @on("trace.asked")
    def asked(self): helper("asked")
    @expose
    def watch(self):
        self.api.watch_data("trace.key", self.watched)
    def watched(self, key, value, revision): helper("watched")
    @expose
    def timer(self): self.api.after(0.01, lambda: helper("timer"))
    @expose
    def spawn(self): self.api.spawn(helper, "spawned")
    @expose
    def spawn_async(self): self.api.spawn(self.work)
    async def work(self): helper("task")
    @expose
    def end(self, how: str): self.ending = how
    @on("trace.group")
    def group(self):
        try:
            helper("inner")
        except KeyError as error:
            raise ExceptionGroup("both", [error, ValueError("other")])
    @on("trace.deep")
    def deep(self): self.deep()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "tracer.py").write_text(PLUGIN, encoding="utf-8")
    return plugins


def traces(kernel: Kernel, who: str) -> list[str]:
    lines = kernel.call("kernel.logs", "tracer")
    return [line["text"] for line in lines if f"KeyError: '{who}'" in line["text"]]


def check(text: str, caller: str) -> None:
    """Whole, and of the plugin's files alone."""
    assert 'tracer.py", line ' in text
    assert "raise KeyError(who) from error" in text
    assert f", in {caller}\n" in text
    assert "JSONDecodeError" in text
    assert "microkernel/sdk" not in text
    assert "direct cause" in text


KINDS: dict[str, tuple[Callable[[Kernel], object], str]] = {
    "event": (lambda kernel: kernel.emit("trace.event"), "event"),
    "asked": (lambda kernel: kernel.ask("trace.asked"), "asked"),
    "watched": (lambda kernel: (kernel.call("tracer.watch"), kernel.set_data("trace.key", 1)), "watched"),
    "timer": (lambda kernel: kernel.call("tracer.timer"), "<lambda>"),
    "spawned": (lambda kernel: kernel.call("tracer.spawn"), "helper"),
    "task": (lambda kernel: kernel.call("tracer.spawn_async"), "work"),
    "stop": (lambda kernel: (kernel.call("tracer.end", "stop"), kernel.stop("tracer")), "stop"),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("who", KINDS)
def test_the_log_has_the_whole_traceback(folder: Path, level: Level, who: str) -> None:
    act, caller = KINDS[who]
    with Kernel(folder, isolation=level) as kernel:
        act(kernel)
        found = eventually(lambda: traces(kernel, who))
        assert len(found) == 1
        check(found[0], caller)


@pytest.mark.parametrize("level", LEVELS)
def test_a_state_that_cannot_be_exported_is_in_the_log(folder: Path, level: Level) -> None:
    with Kernel(folder, isolation=level) as kernel:
        kernel.call("tracer.end", "export")
        with suppress(KernelError):  # whether the reload is taken back is another matter
            kernel.reload("tracer")
        check(eventually(lambda: traces(kernel, "export"))[0], "export_state")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("method", "shown"), [("import", "<module>"), ("__init__", "__init__"), ("start", "start")])
def test_a_start_that_fails_is_in_the_log(folder: Path, level: Level, method: str, shown: str) -> None:
    if method == "import":
        text = PLUGIN.replace("class Plugin(IPlugin):", "helper('start')\nclass Plugin(IPlugin):")
    else:
        own = f"    def {method}(self, *args): helper('start')\n"
        text = PLUGIN.replace("    def start(self): pass\n", "    def start(self): pass\n" + own)
    (folder / "tracer.py").write_text(text, encoding="utf-8")
    with Kernel(folder, isolation=level) as kernel:
        check(traces(kernel, "start")[0], shown)
        assert kernel.info("tracer").traceback in traces(kernel, "start")[0] + "\n"


@pytest.mark.parametrize("level", LEVELS)
def test_dead_letter_contains_the_traceback(folder: Path, level: Level) -> None:
    with Kernel(folder, isolation=level) as kernel:
        kernel.emit("trace.event")
        letter = eventually(kernel.dead_letters)[0]
        check(letter["traceback"], "event")
        assert letter["traceback"].rstrip() in traces(kernel, "event")[0]


def test_a_handler_that_raises_over_and_over_is_logged_once_a_second(folder: Path) -> None:
    with Kernel(folder, isolation="process") as kernel:
        for _ in range(50):
            kernel.emit("trace.event")
        kernel.emit("trace.asked")
        eventually(lambda: len(kernel.dead_letters()) == 51)
        assert len(traces(kernel, "asked")) == 1
        assert 1 <= len(traces(kernel, "event")) < 50
        assert all(letter["traceback"] for letter in kernel.dead_letters())


@pytest.mark.parametrize("level", LEVELS)
def test_groups_and_deep_recursion(folder: Path, level: Level) -> None:
    with Kernel(folder, isolation=level) as kernel:
        kernel.emit("trace.group")
        kernel.emit("trace.deep")
        group, deep = eventually(lambda: len(found := kernel.dead_letters()) == 2 and found)
        assert "KeyError: 'inner'" in group["traceback"]
        assert "ValueError: other" in group["traceback"]
        assert "microkernel/sdk" not in group["traceback"]
        assert "RecursionError" in deep["traceback"]


def test_a_very_long_traceback_keeps_its_ends() -> None:
    try:
        raise ValueError("x" * 200_000 + " the end")
    except ValueError as error:
        failure = failure_of(error, str(Path(__file__).parent), Secrets())
    assert len(failure.traceback) < 65_000
    assert failure.traceback.startswith("Traceback")
    assert failure.traceback.rstrip().endswith("the end")
