"""Layout: widths in cells, no control of the terminal, and plugin tracebacks without our frames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.text import Text

import microkernel
from microkernel.errors import KernelError
from microkernel.kernel.reporting.plugin_info import PluginInfo
from microkernel.messages import Catalog
from microkernel.plugins.console import view
from microkernel.plugins.console.commands import COMMANDS, Commands, split
from microkernel.plugins.console.feed import Feed
from microkernel.plugins.console.kernel_commands import KernelCommands, Result, parse_arguments
from microkernel.plugins.console.prompt import Words
from microkernel.plugins.console.translator import Translator, plain

TRANSLATOR = Translator("en", Catalog.load("en").words(), Catalog.load("en").text)
CHINESE = Translator("zh", Catalog.load("zh").words(), Catalog.load("zh").text)


def test_a_list_is_separated_as_its_language_does() -> None:
    assert TRANSLATOR.listed(["a", "b\x1b"]) == "a, b\\x1b"
    assert CHINESE.listed(["a", "b"]) == "a、b"
    assert CHINESE.word("usage.choice", what="--x", choices=["a", "b"]) == "--x：可选的有 a、b"


def test_columns_are_cells_wide() -> None:
    rows = [["插件", "1"], ["a", "22"], ["中文名字", "333"]]
    lines = view.render([view.Columns([view.Column("名"), view.Column("number", right=True)], rows)]).splitlines()
    assert {cell_len(line) for line in lines} == {cell_len("中文名字") + 2 + len("number")}


def test_columns_that_do_not_fit_are_omitted() -> None:
    columns = [view.Column("name"), view.Column("memory", keep=2), view.Column("cpu", keep=3), view.Column("state")]
    table = view.Columns(columns, [["parser", "11 MiB", "97 %", "active"]])
    heads = [view.render([table], width).splitlines()[0].split() for width in (80, 26, 20)]
    assert heads == [["name", "memory", "cpu", "state"], ["name", "memory", "state"], ["name", "state"]]


def test_nothing_depends_on_colour() -> None:
    line = view.line("error", "parser", "MK0201", "it broke")
    assert view.render([line]) == "✗ parser  MK0201  it broke\n"
    assert "\x1b[" in view.render([line], color=True)


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\x07b", "a\u202eb", "a\x9bb", "a\rb"])
def test_text_of_a_plugin_cannot_control_the_terminal(text: str) -> None:
    assert plain(text).isprintable()
    record = {"plugin": text, "time": 0.0, "level": 20, "stream": "log", "text": text}
    event = Feed(TRANSLATOR, "").event(text, text, {"k": text})
    for shown in (view.log_line(record), view.Columns([view.Column("x")], [[text]]), *event):
        assert all(line.isprintable() for line in view.render([shown]).splitlines())


TRACE = """Traceback (most recent call last):
  File "/home/me/plugins/billing.py", line 4, in total
    return self.api.call("rates.get")
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/lib/python3/site-packages/microkernel/sdk/api.py", line 90, in call
    return self._runtime
  File "/home/me/plugins/billing.py", line 9, in helper
    raise KeyError
KeyError
"""


def test_their_traceback_without_our_frames() -> None:
    (shown,) = view.their_lines(TRACE)
    lines = [line.strip() for line in view.render([shown]).splitlines()]
    assert lines == [
        'File "/home/me/plugins/billing.py", line 4, in total', 'return self.api.call("rates.get")',
        'File "/home/me/plugins/billing.py", line 9, in helper', "raise KeyError",
    ]  # fmt: skip
    assert view.their_lines('Traceback\n  File "/x.py", line 1, in f\n    raise\nKeyError') == []


def info(level: str, **protections: str) -> dict[str, Any]:
    facts = {
        "name": "p", "version": "1.0", "isolation": level, "state": "stopped", "doc": "", "traceback": "", "path": "",
        "error_id": None, "error_fields": {}, "generation": 1, "pid": 0, "up": 0.0, "memory": None, "kept": {},
        "requires": [], "methods": {}, "returns": {}, "docs": {}, "topics": [], "permissions": {}, "asked": {},
        "last_death": {}, "wants": [], "direct": [], "next_start": None,
    }  # fmt: skip
    counts = dict.fromkeys(("events", "calls", "emitted", "waiting", "restarts", "dropped", "refused", "dead"), 0)
    return {**facts, **counts, "protections": {each.replace("_", " "): how for each, how in protections.items()}}


ATTACK = "\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e\u2066x\x00"


@pytest.mark.parametrize("color", [False, True])
def test_nothing_that_is_rendered_drives_the_terminal(color: bool) -> None:
    """Even if a text, a cell of a table or a style was not made safe before."""
    parts = [
        Text(ATTACK), ATTACK, Text.assemble("a", (ATTACK, "red")),
        view.Columns([view.Column(ATTACK), view.Column("", fold=True)], [[ATTACK, Text(ATTACK)]]),
    ]  # fmt: skip
    shown = re.sub(r"\x1b\[[0-9;]*m", "", view.render(parts, 200, color))
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert "title" in shown


def test_only_one_place_writes_to_the_terminal() -> None:
    """Output comes from ``view.render`` or consists of our own texts; ruff refuses ``print`` (T20)."""
    allowed = {"cli/streams.py", "plugins/console/__init__.py", "plugins/console/prompt.py", "worker/children.py"}
    source = Path(microkernel.__file__).parent
    writing = re.compile(r"(?:stdout|stderr|stream|terminal)\.(?:buffer\.)?write\(")
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if writing.search(path.read_text("utf-8"))}
    assert found <= allowed


def test_a_waiting_plugin_is_shown_with_its_reason_and_its_next_start() -> None:
    shown = info("process") | {
        "state": "waiting", "error_id": "MK0227", "error_fields": {"reason": "db is down", "delay": 5.0},
        "wants": ["mail", "cache"], "next_start": 3.21,
    }  # fmt: skip
    text = view.render(view.plugin(shown, TRANSLATOR))
    assert re.search(r"not ready: db is down", text)
    assert re.search(r"next start in +3 s", text)
    assert re.search(r"wants +mail, cache", text)


def test_methods_are_shown_with_their_values_and_docstrings() -> None:
    shown = info("process") | {
        "methods": {"total": "(currency: str = 'CNY')", "quiet": "()"},
        "returns": {"total": "decimal.Decimal"},
        "docs": {"total": "Add it all up.\n\nIn one currency."},
    }
    lines = [line.strip() for line in view.render(view.plugin(shown, TRANSLATOR)).splitlines()]
    at = next(index for index, line in enumerate(lines) if "total(" in line)
    assert lines[at].endswith("total(currency: str = 'CNY') -> decimal.Decimal")
    assert lines[at + 1 : at + 3] == ["Add it all up.", "quiet()"]


@pytest.mark.parametrize("level", ["process", "sandbox", "wasm"])
def test_an_unset_limit_is_not_shown_as_unavailable(level: str) -> None:
    page = view.render(
        view.plugin(info(level, memory="enforced", cpu="unavailable", network="unavailable"), TRANSLATOR)
    )
    assert "memory  enforced" in page
    assert "cpu  no limit" in page
    assert "network  not restricted" in page


def test_protections_that_a_thread_lacks_are_shown_as_not_restricted() -> None:
    """`network unavailable` would read as if the network were down."""
    page = view.render(view.plugin(info("thread", memory="unavailable", hard_kill="watched"), TRANSLATOR))
    assert "memory  not restricted" in page
    assert "hard kill  watched" in page


def test_protections_are_named_in_the_readers_language() -> None:
    held = info("process", memory="unavailable", network="unavailable", hard_kill="enforced", new="enforced")
    page = view.render(view.plugin(held, CHINESE))
    assert "内存：未设限" in page
    assert "网络：不受限制" in page
    assert "强制终止：已生效" in page
    assert "new：已生效" in page


def test_the_last_death_is_shown_with_its_whole_stack_also_after_the_restart() -> None:
    stack = 'Thread 0x1 (most recent call first):\n  File "/p/p.py", line 7 in total\n  File "/lib/x.py", line 1 in x'
    page = view.render(view.plugin(info("process") | {"last_death": {"reason": "silent", "stack": stack}}, TRANSLATOR))
    assert "last death" in page
    assert [line.strip() for line in page.splitlines()][-3:] == [line.strip() for line in stack.splitlines()]


def test_the_reason_of_a_dead_letter_is_translated() -> None:
    dead = {"id": 1, "time": 0.0, "plugin": "p", "topic": "t", "delivery": 3, "handler": "f", "source": "kernel"}
    dead |= {"data": {}, "reason": "p is quarantined", "traceback": ""}
    for translator, said in ((TRANSLATOR, "p is quarantined"), (CHINESE, "p 已进入隔离区")):
        assert said in view.render(view.letters([dead], translator))
        assert said in view.render(view.letter(dead, translator))


def test_durations_and_sizes() -> None:
    durations = [view.duration(seconds, TRANSLATOR) for seconds in (0.2, 41, 120, 7300, 200_000)]
    assert durations == ["0 s", "41 s", "2 m", "2 h", "2 d"]
    sizes = [view.size(number) for number in (None, 10, 1536, 11 << 20, 3 << 30)]
    assert sizes == ["—", "10 B", "1.5 KiB", "11 MiB", "3.0 GiB"]


@pytest.mark.parametrize(
    ("word", "value"),
    [("5", 5), ("-1.5", -1.5), ("true", True), ("null", None), ('"5"', "5"), ("a b", "a b"), ("{x", "{x")],
)
def test_values_without_a_type_hint(word: str, value: object) -> None:
    assert parse_arguments([word])[0][0].value == value


def test_arguments() -> None:
    assert parse_arguments(["3", "a=1", 'b="x=y"', "c=x=y", '"d=1"', "=5", "1=2"]) == (
        ["3", '"d=1"', "=5", "1=2"], {"a": "1", "b": '"x=y"', "c": "x=y"},
    )  # fmt: skip


class Recorder:
    """A kernel that records the requests it gets."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def call(self, target: str, /, *args: object, timeout: float = 5.0, **kwargs: object) -> object:
        if target == "kernel.listeners":
            return ["greeter"]
        self.asked.append((target, args, kwargs, timeout))
        return []

    def emit(self, topic: str, /, **data: object) -> None:
        self.asked.append((topic, data))

    def get_data(self, key: str, default: object = None) -> object:
        return default

    def set_data(self, key: str, value: object, *, expect: int | None = None) -> int:
        self.asked.append((key, value))
        return 1

    def delete_data(self, key: str) -> None:
        self.asked.append(key)


def console(recorder: Recorder) -> Commands:
    own = {name: lambda *_: Result(None) for name in ("help", "quit", "watch")}
    return Commands(KernelCommands(recorder, TRANSLATOR, Feed(TRANSLATOR, "")), TRANSLATOR, own)


def test_a_line_of_the_console() -> None:
    recorder = Recorder()
    commands = console(recorder)
    commands.do(split('call greeter.greet "Ann B" x=1 --timeout 2.5', TRANSLATOR))
    commands.do(split("emit order.created order_id=7", TRANSLATOR))
    commands.do(split("start parser --reset", TRANSLATOR))
    assert recorder.asked == [
        ("greeter.greet", ("Ann B",), {"x": "1"}, 2.5),
        ("order.created", {"order_id": "7"}),
        ("kernel.start", ("parser", True), {}, 120.0),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pss", "did you mean ps?"),
        ("zzzz", "help lists them"),
        ("kill", "write: kill NAME"),
        ("kill a b", "write: kill NAME"),
        ("ps --fast", "write: ps"),
        ("call x.y --timeout soon", "soon is not a number"),
        ("emit a.b 7", "KEY=VALUE"),
        ("call x.y timeout=3", "--timeout"),
        ("dead bury", "dead show ID"),
    ],
)
def test_an_invalid_line_is_an_error(line: str, words: str) -> None:
    with pytest.raises(KernelError, match="MK0710") as refused:
        console(Recorder()).do(split(line, TRANSLATOR))
    assert words in refused.value.text


def test_an_open_quote() -> None:
    with pytest.raises(KernelError, match="a quote is not closed"):
        split('call "x', TRANSLATOR)


def completions(text: str) -> list[str]:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    names = {"plugins": ["parser", "walker"], "methods": ["parser.parse", "walker.walk"], "topics": ["order.*"]}
    found = Words(lambda: names, TRANSLATOR).get_completions(Document(text), CompleteEvent())
    return [each.text for each in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("re", ["reload"]),
        ("kill ", ["parser", "walker"]),
        ("kill w", ["walker"]),
        ("call parser.", ["parser.parse"]),
        ("emit ", ["order.*"]),
        ("dead re", ["replay"]),
        ("start parser --", ["--reset"]),
        ("kill parser ", []),
        ("nothing ", []),
    ],
)
def test_completion(text: str, expected: list[str]) -> None:
    assert completions(text) == expected


def test_every_command_has_a_help_in_both_languages() -> None:
    for language in ("en", "zh"):
        words = Catalog.load(language).words()
        assert {f"help.{verb}" for verb in COMMANDS} <= words.keys()


def test_a_kernel_without_plugins_says_how_to_write_one() -> None:
    assert "no plugins found · mk new NAME writes one" in view.render(Feed(TRANSLATOR, "0.1").found("empty", []))
    assert "plugins found: 1 · mk help" in view.render(Feed(TRANSLATOR, "0.1").found("one", ["a"]))


def test_a_feed_counts_reported_messages() -> None:
    feed = Feed(TRANSLATOR, "1")
    feed.found("k", ["a", "b"])
    assert not feed.wait("a", 0, 0.0)
    feed.message("MK0218", "success", "a", {"generation": 1, "ms": 1.0, "version": "1", "level": "thread", "pid": None})
    assert feed.wait("a", 0, 0.0)
    assert feed.message("MK0219", "notice", "b", {}) == [], "it never ran: that it stopped is no news"
    assert [str(line) for line in feed.message("MK0219", "notice", "a", {})] == ["• a  stopped"]
    assert isinstance(feed.message("MK0203", "warn", "a", {"reason": "x"})[0], Text)


@pytest.mark.parametrize("translator", [TRANSLATOR, CHINESE])
def test_help_breaks_no_word_at_eighty_columns(translator: Translator) -> None:
    usages = [(verb, f"{verb} {command.usage}".strip()) for verb, command in COMMANDS.items()]
    text = view.render(view.commands(usages, translator), 80)
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    for _, usage in usages:
        assert all(word in text.split() for word in usage.split()), usage


def test_the_info_of_a_plugin_fits_a_line() -> None:
    info = PluginInfo("billing", "1.2", "failed", "process", 3, 4121, 2, "x" * 500, {"cpu": "enforced"}, error_id="MK1")
    assert repr(info) == (
        "PluginInfo(name='billing', version='1.2', state='failed', isolation='process', generation=3, pid=4121, "
        "restarts=2, error_id='MK1')"
    )


@pytest.mark.parametrize("moment", [-1e308, 1e308, 1e18, float("inf"), float("nan")])
def test_a_moment_that_no_calendar_has_is_a_dash(moment: float) -> None:
    assert view.clock(moment) == view.NOTHING
    record = {"plugin": "p", "time": moment, "level": 20, "stream": "log", "text": "hello"}
    assert view.log_line(record, stamped=True).plain.endswith(f"{view.NOTHING}  p  hello")
