"""Secrets of a plugin's configuration: the plugin has them, and nobody is shown them by accident."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from microkernel import Kernel
from microkernel.errors import CallFailed, PluginLoadError
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.lifecycle.launcher import _check_secrets
from microkernel.kernel.manifest import Level
from microkernel.sdk.loading.config_secrets import MaskedStr, mask, secret_values
from microkernel.wire import codec
from microkernel.wire.secrets import Secrets

LEVELS: list[Level] = ["thread", "process"]
GIVEN = "hush-hush'quoted"
WRITTEN = "written-down"

HOLDER = """
import os, sys
from dataclasses import dataclass, field
from typing import Annotated
from microkernel import IPlugin, Secret, expose, on

@dataclass(frozen=True)
class Inner:
    token: Annotated[str, Secret] = ""

@dataclass
class Config:
    given: str
    written: Annotated[str, Secret] = ""
    inner: Inner = field(default_factory=Inner)
    keys: list[Annotated[str, Secret]] = field(default_factory=list)
    open: str = "open"
    path: str = ""
    where: str = ""

class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def lengths(self):
        c = self.api.config
        return [len(c.given), len(c.written), len(c.inner.token), len(c.keys[0]), c.open]
    @expose
    def value(self): return self.api.config.given
    @expose
    def tell(self):
        c = self.api.config
        print("printed", c.given, c.written, c, flush=True)
        print("complained", c.given, file=sys.stderr, flush=True)
        self.api.log.warning("logged %s %r %s", c.given, c, c.inner.token)
        try:
            raise KeyError(c.given)
        except KeyError:
            self.api.log.exception("with a trace")
        self.api.say.notice("said {what}, {more}", what=c.given, more=c.keys[0])
        self.api.say.notice(f"said {c.written}")
        self.api.log.info("the end")
    @expose
    def fail(self): raise ValueError(f"no account {self.api.config.given} {self.api.config.written}")
    @on("holder.fail")
    def on_fail(self): self.fail()
    @expose
    def leave(self): sys.exit(f"no account {self.api.config.given}")
    @expose
    def environment(self): return sorted(os.environ)
"""
OTHER = """
import os
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def environment(self): return sorted(os.environ)
"""
CONFIG = {
    "given": {"env": "MK_TEST_SECRET"},
    "written": WRITTEN,
    "inner": {"token": "inner-token"},
    "keys": ["first-key"],
}
ALL = ("hush-hush", "quoted", WRITTEN, "inner-token", "first-key")


@contextmanager
def running(tmp_path: Path, level: Level, code: str = HOLDER, **config: Any) -> Iterator[Kernel]:
    folder = tmp_path / "plugins"
    folder.mkdir(exist_ok=True)
    (folder / "holder.py").write_text(code, encoding="utf-8")
    (folder / "other.py").write_text(OTHER, encoding="utf-8")
    settings = KernelConfig(plugin={"holder": PluginConfig(config={**CONFIG, **config})})
    with Kernel(folder, config=settings, isolation=level) as kernel:
        yield kernel


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MK_TEST_SECRET", GIVEN)
    monkeypatch.setenv("MK_TEST_OPEN", "open")


def lines(kernel: Kernel, end: str) -> str:
    """All that the plugin logged and printed, once ``end`` is among it."""
    until = time.monotonic() + 20
    while True:
        text = "\n".join(line.text for line in kernel.core.plugins.logs("holder"))
        if end in text or time.monotonic() > until:
            return text
        time.sleep(0.01)


def hides(text: str) -> bool:
    return not any(each in text for each in ALL)


@pytest.mark.parametrize("level", LEVELS)
def test_plugin_reads_its_secrets_and_may_return_them(tmp_path: Path, level: Level) -> None:
    with running(tmp_path, level) as kernel:
        assert kernel.call("holder.lengths") == [len(GIVEN), len(WRITTEN), 11, 9, "open"]
        assert kernel.call("holder.value") == GIVEN


@pytest.mark.parametrize("level", LEVELS)
def test_logs_and_output_hide_secrets(tmp_path: Path, level: Level) -> None:
    with running(tmp_path, level) as kernel:
        kernel.call("holder.tell")
        text = lines(kernel, "the end")
        if level == "process":  # a thread's output is not captured
            text = lines(kernel, "complained")
            assert "printed *** *** Config(given='***', written='***'" in text
            assert "open='open'" in text
        assert hides(text), text
        assert "logged *** Config(" in text
        assert "KeyError: " in text
        assert "said ***, ***" in text
        assert hides(str(kernel.info("holder")))
        assert hides(repr(kernel.core.plugins.list()))


@pytest.mark.parametrize("level", LEVELS)
def test_errors_and_dead_letters_hide_secrets(tmp_path: Path, level: Level) -> None:
    with running(tmp_path, level) as kernel:
        with pytest.raises(CallFailed) as caught:
            kernel.call("holder.fail")
        assert caught.value.remote_message == "no account *** ***"
        assert hides(f"{caught.value} {caught.value.fields}")
        kernel.emit("holder.fail")
        until = time.monotonic() + 20
        while not kernel.dead_letters() and time.monotonic() < until:
            time.sleep(0.01)
        assert "no account *** ***" in kernel.dead_letters()[0]["reason"]
        assert hides(f"{kernel.dead_letters()} {list(kernel.core.registry.get('holder').dead_letters)}")


@pytest.mark.parametrize("level", LEVELS)
def test_exit_message_hides_secrets(tmp_path: Path, level: Level) -> None:
    heard: list[Any] = []
    with running(tmp_path, level) as kernel:
        kernel.on("kernel.message", lambda event: heard.append(event.data), inline=True)
        with pytest.raises(Exception, match="holder"):
            kernel.call("holder.leave")
        assert hides(str(kernel.info("holder").error))
    assert hides(str(heard))


@pytest.mark.parametrize("level", LEVELS)
def test_failed_start_hides_secrets(tmp_path: Path, level: Level) -> None:
    code = HOLDER.replace("start(self): pass", "start(self): raise ValueError(repr(str(self.api.config.given)))")
    with running(tmp_path, level, code) as kernel:
        info = kernel.info("holder")
        assert (info.state, info.error_id) == ("failed", "MK0201")
        assert hides(f"{info}"), info


def test_secrets_are_in_no_process_environment(tmp_path: Path) -> None:
    with running(tmp_path, "process", path={"env": "PATH"}, open="x") as kernel:
        for name in ("holder", "other"):
            variables = kernel.call(f"{name}.environment")
            assert "MK_TEST_SECRET" not in variables
            assert {"MK_TEST_OPEN", "PATH"} <= set(variables)
        assert GIVEN in os.environ.values()


# Pure


def test_redact_replaces_whole_secrets_quoted_forms_and_lines() -> None:
    secrets = Secrets(["hush", "hush-hush", "abc", "line one\nand two\nx"])
    assert secrets.redact("a hush-hush hush abc") == "a *** *** abc"
    assert secrets.redact("'line one\\nand two\\nx'") == "'***'"
    assert secrets.redact("> line one") == "> ***"
    assert Secrets().redact("anything") == "anything"


def test_secret_is_a_str_whose_repr_is_masked() -> None:
    secret = MaskedStr("hush")
    assert (secret, f"{secret}", repr(secret), repr([secret])) == ("hush", "hush", "'***'", "['***']")
    assert codec.decode(codec.encode({"key": secret})) == {"key": "hush"}


def test_plain_configuration_is_masked_by_value() -> None:
    config = mask({"a": "hush", "b": {"c": ["hush", "open"]}, "n": 4}, frozenset({"hush"}))
    assert repr(config) == "{'a': '***', 'b': {'c': ['***', 'open']}, 'n': 4}"
    assert [*secret_values(config)] == ["hush", "hush"]


AWKWARD = (
    'pa"ss', "pa'ss\"x", "pa\\ss\\\\w", "p@ss w/rd+=&?<>", "密码一二", "k😀ey-1", "trail-nl\n", "$HOME`x`", "plain99",
)  # fmt: skip
"""Secrets that notations write differently."""


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize(
    "write",
    [
        str, repr, ascii, json.dumps, partial(json.dumps, ensure_ascii=False),
        lambda value: json.dumps(json.dumps(json.dumps(value))), lambda value: repr(json.dumps([value])),
        lambda value: json.dumps(value).replace("/", "\\/"),
        lambda value: repr(value.encode()), lambda value: repr(repr(value.encode())),
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
        lambda value: value.encode().hex(), lambda value: value.encode().hex().upper(),
        quote, partial(quote, safe=""), quote_plus, lambda value: quote(quote(value, safe="")),
        html.escape, lambda value: value.encode("ascii", "xmlcharrefreplace").decode(),
    ],
)  # fmt: skip
def test_secret_is_redacted_in_every_quoted_form(value: str, write: Callable[[str], str]) -> None:
    cut = Secrets([value]).redact(f"before {write(value)} behind")
    assert re.fullmatch(r"before [b'\"\\\[]*\*\*\*(\\+n|\n|%250A|%0A)?['\"\\\]]* behind", cut), cut


@pytest.mark.parametrize("before", ["", "u", "me", "you"])
@pytest.mark.parametrize("behind", ["", "!", "!!", "!!!"])
def test_secret_is_redacted_inside_longer_base64(before: str, behind: str) -> None:
    text = base64.b64encode(f"{before}correct-horse-battery{behind}".encode()).decode()
    cut = Secrets(["correct-horse-battery"]).redact(text)
    assert "***" in cut
    assert len(cut) <= 3 + 12


def test_long_secret_is_redacted_in_wrapped_base64() -> None:
    value = "".join(chr(33 + number % 90) for number in range(500))
    assert set(Secrets([value]).redact(base64.encodebytes(value.encode()).decode()).split()) == {"***"}


def test_redaction_is_fast_for_any_text() -> None:
    secrets = Secrets(["a\\\\b\"\"''&&%%c", "pa\\ss"])
    for text in ("\\" * 200_000, "%25" * 60_000, "&amp;" * 40_000, '\\\\"' * 60_000):
        assert secrets.redact(text) == text  # it ends within the test's deadline


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize(
    "write",
    [
        str, repr, ascii, json.dumps, partial(json.dumps, ensure_ascii=False),
        lambda value: json.dumps(value).replace("/", "\\/"), lambda value: repr(value.encode()),
        lambda value: base64.b64encode(value.encode()).decode(), lambda value: value.encode().hex(),
        quote, partial(quote, safe=""), quote_plus, html.escape,
    ],
)  # fmt: skip
def test_plugin_chosen_secret_is_redacted_in_usual_notations(value: str, write: Callable[[str], str]) -> None:
    secrets = Secrets()
    secrets.add([value], in_any_mixture=False)
    cut = secrets.redact(f"before {write(value)} behind")
    assert re.fullmatch(r"before [b'\"\\\[]*\*\*\*(\\+n|\n|%250A|%0A)?['\"\\\]]* behind", cut), cut


def test_redaction_is_fast_for_any_secret() -> None:
    secrets = Secrets()
    chosen = ["\\" * 20_000 + "x", '"' * 20_000 + "x", "%" * 20_000 + "x", "&" * 20_000 + "x", "汉" * 20_000 + "x"]
    secrets.add(chosen, in_any_mixture=False)
    for value in chosen:
        text = value[:-1] * 10
        assert secrets.redact(text) == text  # it ends within the test's deadline


@pytest.mark.parametrize(
    ("values", "level", "is_refused"),
    [(["s"] * 256, "sandbox", False), (["s"] * 257, "sandbox", True), (["s"] * 257, "process", False),
     (["a line\n" * 300], "wasm", True), (["x" * 65_537], "wasm", True), ([], "sandbox", False)],
)  # fmt: skip
def test_secrets_marked_by_a_confined_plugin_are_limited(values: list[str], level: str, is_refused: bool) -> None:
    instance: Any = SimpleNamespace(level=level, name="p")
    with pytest.raises(PluginLoadError, match="MK0633") if is_refused else nullcontext():
        _check_secrets(instance, values)


def test_redaction_in_steps_equals_redaction_at_once() -> None:
    secrets = Secrets()
    secrets.add([f"secret{number}" for number in range(300)], in_any_mixture=False)
    text = "x" * 50_000 + "secret7 and secret299"
    found: list[str] = []

    def take() -> Iterator[None]:
        found.append((yield from secrets.redact_in_steps(text)))

    assert sum(1 for _ in take()) > 50  # pauses
    assert found == [secrets.redact(text)] == ["x" * 50_000 + "*** and ***"]
