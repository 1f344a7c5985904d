"""Names, paths and texts that are not valid Unicode: refused with true words where they are values, escaped where they
are shown, and used as they are where they are paths."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import BadTopic, CallFailed, KernelError, NotPlainData, PluginDied, valid_text
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import Level
from microkernel.wire.texts import path_from_text, path_to_text, path_value, valid_texts

LEVELS: list[Level] = ["thread", "process"]
BAD = os.fsdecode(b"caf\xe9")
SHOWN = r"caf\xe9"
TRUE_WORDS = "text that is not valid Unicode"

PLUGIN = r"""
import os, sys
from microkernel import IPlugin, expose, on
BAD = "caf\udce9"
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def where(self):
        return [os.fsencode(__file__), os.path.exists(__file__), os.fsencode(self.api.data_dir), os.getcwdb()]
    @expose
    def variable(self): return os.environb[b"MK_TEST_ODD"]
    @expose
    def give(self): return {"a": [BAD]}
    @expose
    def give_key(self): return {BAD: 1}
    @expose
    def emit(self): self.api.emit("some.topic", text=BAD)
    @expose
    def topic(self): self.api.emit(BAD)
    @expose
    def call(self): self.api.call("plug.take", BAD)
    @expose
    def board(self): self.api.set_data("key", [BAD])
    @expose
    def take(self, *values, **named): return 1
    @expose
    def fail(self): raise ValueError(BAD)
    @on("plug.event")
    def event(self): raise ValueError(BAD)
    @expose
    def leave(self): sys.exit(BAD)
    @expose
    def tell(self):
        def helper(): raise ValueError(BAD)
        helper.__name__ = helper.__qualname__ = BAD
        self.api.on("named.topic", helper)
        self.api.expose(helper, BAD)
        self.api.log.info("logged %s", BAD)
        self.api.say.notice("said {what} {both}", what=BAD, both=["\ud800"])
        self.api.log.info("the end")
    def export_state(self): return None
"""


def written(folder: bytes, name: bytes = b"plug.py", text: str = PLUGIN) -> str:
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
    return os.fsdecode(folder)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return os.fsencode(tmp_path)


@pytest.mark.parametrize("level", LEVELS)
def test_plugin_file_whose_name_is_not_utf8_is_refused_and_others_run(root: bytes, level: Level) -> None:
    folder = written(root + b"/plugins")
    written(root + b"/plugins", b"caf\xe9.py")
    written(root + b"/plugins/pl\xff", b"__init__.py")
    with Kernel(folder, isolation=level) as kernel:
        assert {info.name: info.state for info in kernel.list()} == {
            "plug": "active", SHOWN: "failed", r"pl\xff": "failed",
        }  # fmt: skip
        info = kernel.info(SHOWN)
        assert info.error_id == "MK0108"
        assert SHOWN in str(info.error)
        assert "it is not valid Unicode" in str(info.error)
        assert kernel.call("plug.take") == 1
        names = [each["name"] for each in kernel.call("kernel.list")]
        assert sorted(names) == sorted(["plug", SHOWN, r"pl\xff"])
        with pytest.raises(KernelError, match="MK0108"):
            kernel.load(os.fsdecode(root + b"/plugins/caf\xe9.py"))
        kernel.unload(SHOWN)
        assert SHOWN not in [info.name for info in kernel.list()]


@pytest.mark.parametrize("level", LEVELS)
def test_manifest_may_name_a_plugin_whose_file_name_is_not_utf8(root: bytes, level: Level) -> None:
    block = '# /// script\n# [tool.microkernel]\n# name = "plug"\n# ///\n'
    folder = written(root + b"/plugins", b"caf\xe9.py", block + PLUGIN)
    with Kernel(folder, isolation=level) as kernel:
        assert kernel.call("plug.where")[:2] == [root + b"/plugins/caf\xe9.py", True]
        assert kernel.reload("plug").generation == 2


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("form", [os.fsdecode, os.fsencode, lambda path: Path(os.fsdecode(path))])
def test_a_folder_whose_path_is_not_utf_8_works(root: bytes, level: Level, form: Callable[[bytes], Any]) -> None:
    written(root + b"/caf\xe9")
    with Kernel(form(root + b"/caf\xe9"), isolation=level) as kernel:
        assert kernel.call("plug.where")[:2] == [root + b"/caf\xe9/plug.py", True]
        kernel.reload("plug")
        assert kernel.call("plug.where")[:2] == [root + b"/caf\xe9/plug.py", True]
        assert SHOWN in kernel.call("kernel.info", "plug")["path"]
        sources = kernel.call("kernel.sources")
        assert sources["places"] == [root + b"/caf\xe9"]
        assert sources["plugins"][0]["path"] == root + b"/caf\xe9/plug.py"
        assert [*kernel.call("kernel.source", "plug")] == [root + b"/caf\xe9/plug.py"]
        with pytest.raises(CallFailed) as failed:
            kernel.call("plug.fail")
        assert f"{SHOWN}/plug.py" in failed.value.remote_traceback
        kernel.unload("plug")
        kernel.load(root + b"/caf\xe9/plug.py")


@pytest.mark.parametrize("level", LEVELS)
def test_folders_for_data_and_work_whose_path_is_not_utf_8(
    root: bytes, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(root + b"/plugins")
    os.mkdir(root + b"/w\xe9")
    monkeypatch.chdir(os.fsdecode(root + b"/w\xe9"))
    monkeypatch.setenv("XDG_STATE_HOME", os.fsdecode(root + b"/st\xe9"))
    monkeypatch.setenv("TMPDIR", os.fsdecode(root + b"/w\xe9"))
    with Kernel(folder, isolation=level) as kernel:
        where = kernel.call("plug.where")
        assert where[2:] == [root + b"/st\xe9/microkernel/" + os.path.basename(root) + b"/plug", root + b"/w\xe9"]
        assert os.path.isdir(where[2])


@pytest.mark.parametrize("level", LEVELS)
def test_environment_variables_pass_unchanged(root: bytes, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MK_TEST_ODD", BAD)
    with Kernel(written(root + b"/plugins"), isolation=level) as kernel:
        assert kernel.call("plug.variable") == b"caf\xe9"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ["give", "give_key", "emit", "call", "board"])
def test_invalid_text_in_a_result_is_refused_with_the_reason(root: bytes, level: Level, method: str) -> None:
    with Kernel(written(root + b"/plugins"), isolation=level) as kernel:
        with pytest.raises(CallFailed) as failed:
            kernel.call(f"plug.{method}")
        assert failed.value.remote_type == "NotPlainData"
        assert TRUE_WORDS in failed.value.remote_message
        assert kernel.call("plug.take") == 1


def test_invalid_text_from_the_embedder_is_refused_with_the_reason(root: bytes) -> None:
    with Kernel(written(root + b"/plugins")) as kernel:
        said: list[Callable[[], object]] = [
            lambda: kernel.emit("a.b", x=BAD), lambda: kernel.emit("a.b", **{BAD: 1}),
            lambda: kernel.call("plug.take", BAD), lambda: kernel.call("plug.take", **{BAD: 1}),
            lambda: kernel.set_data("key", {"a": BAD}),
            lambda: kernel.ask("a.b", x=[BAD]),
        ]  # fmt: skip
        for say in said:
            with pytest.raises(NotPlainData, match=TRUE_WORDS):
                say()
        named: list[Callable[[], object]] = [
            lambda: kernel.emit(BAD), lambda: kernel.call(f"plug.{BAD}"), lambda: kernel.set_data(BAD, 1),
            lambda: kernel.on(BAD, print), lambda: kernel.ask(BAD), lambda: kernel.get_data(BAD),
        ]  # fmt: skip
        for name in named:
            with pytest.raises(BadTopic) as refused:
                name()
            assert str(refused.value).encode()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("config", [{"a": {"b": "\ud800"}}, {"a": {"env": "MK_TEST_ODD"}}, {BAD: 1}])
def test_invalid_text_in_the_configuration_is_refused_with_the_reason(
    root: bytes, level: Level, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MK_TEST_ODD", BAD)
    settings = KernelConfig(plugin={"plug": PluginConfig(config=config)})
    with Kernel(written(root + b"/plugins"), settings, isolation=level) as kernel:
        info = kernel.info("plug")
        assert (info.state, info.error_id) == ("failed", "MK0602")
        assert TRUE_WORDS in str(info.error)
        assert "config" in str(info.error)


@pytest.mark.parametrize("level", LEVELS)
def test_invalid_text_is_escaped_in_logs_errors_and_dead_letters(
    root: bytes, level: Level, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Kernel(written(root + b"/plugins"), isolation=level) as kernel:
        ended, buried = threading.Event(), threading.Event()
        kernel.on("kernel.log.plug", lambda text: text != "the end" or ended.set())
        kernel.on("kernel.message", lambda event: event.data["id"] != "MK0611" or buried.set())
        kernel.call("plug.tell")
        assert ended.wait(20)
        texts = [line["text"] for line in kernel.call("kernel.logs", "plug")]
        assert texts == [f"logged {SHOWN}", rf"said {SHOWN} ['\\ud800']", "the end"]
        kernel.emit("plug.event")
        assert buried.wait(20)
        assert SHOWN in kernel.call("kernel.dead", "plug")[0]["reason"]
        with pytest.raises(CallFailed) as failed:
            kernel.call("plug.fail")
        assert failed.value.remote_message == SHOWN
        with pytest.raises(PluginDied) as died:
            kernel.call("plug.leave")
        assert SHOWN in str(died.value)
        "".join(map(str, kernel.list())).encode()
    assert caplog.text.encode()


# Pure


def test_surrogates_are_escaped() -> None:
    assert valid_text("a\udce9\ud83d b 汉") == r"a\xe9\ud83d b 汉"
    assert valid_texts({BAD: [1, {"x": (BAD, b"\xe9")}]}) == {SHOWN: [1, {"x": (SHOWN, b"\xe9")}]}


@pytest.mark.parametrize("path", ["/a/b", "/caf\udce9/\udcff\udc80", "/汉", ""])
def test_path_survives_conversion_to_text(path: str) -> None:
    path_to_text(path).encode()
    assert path_from_text(path_to_text(path)) == path
    assert os.fsdecode(path_value(path)) == path
