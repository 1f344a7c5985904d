"""Values are formatted for people where they are shown."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path
from string import Formatter as StringFormatter

import pytest

from microkernel.errors import KernelError
from microkernel.messages import Catalog, Formatter, plain
from microkernel.messages.formatting import number
from microkernel.messages.reason_translation import chinese, pairs, phrase

SOURCE = Path(__file__).parents[3] / "src" / "microkernel"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2.0, "2.0"),
        (0.123456, "0.12"),
        (0.25, "0.25"),
        (0.30000000000000004, "0.3"),
        (0.00042, "0.00042"),
        (2.3456, "2.3"),
        (60.0, "60"),
        (123.456, "123"),
        (1234567.8, "1234568"),
        (-2.3456, "-2.3"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_floats(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("template", "fields", "shown"),
    [
        ("{a}", {"a": None}, "—"),
        ("{a!r}", {"a": None}, "—"),
        ("{a:,}", {"a": None}, "—"),
        ("{a}", {}, "<a>"),
        ("{a!r}", {}, "<a>"),
        ("{a:,}", {}, "<a>"),
        ("{a:,}", {"a": 10000}, "10,000"),
        ("{a:,}", {"a": "many"}, "many"),
        ("{a:.3f}", {"a": 0.123456}, "0.123"),
        ("{a!r}", {"a": "x"}, "'x'"),
        ("{a}", {"a": ["x", 2.0]}, "x, 2.0"),
        ("x{suggestion}{where}", {}, "x"),
        ("x{suggestion}{where}", {"suggestion": None, "where": None}, "x"),
        ("{a} {b}", {"a": "{b}", "b": 1}, "{b} 1"),
        ("{}", {}, "<0>"),
    ],
)
def test_fields(template: str, fields: dict[str, object], shown: str) -> None:
    assert Formatter().fill(template, fields) == shown


def test_a_plugin_cannot_drive_the_terminal() -> None:
    assert plain("a\x1b[2J\x07\u202eb\nc") == "a\\x1b[2J\\x07\\u202eb c"
    assert plain("中文 é ✓") == "中文 é ✓"
    shown = Formatter().fill("{a} {b}", {"a": "\x1b]0;x\x07", "b": ["\x9b"]})
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("english", "shown"),
    [
        ("'(' was never closed", "'(' 没有闭合"),
        ("expected an indented block after 'if' statement on line 3", "第 3 行的 'if' 语句之后缺少缩进的代码块"),
        ("expected ':' in \"def total(self)\"", "缺少 ':'，在“def total(self)”里"),
        ('in "x = = 1"', "在“x = = 1”里"),
        ("'(' was never closed at the end of the file", "'(' 没有闭合，在文件末尾"),
        ("f-string: expected '}'", "f-string：缺少 '}'"),
        ("amount: Expected `int`, got `str`", "amount：应为 `int`，实际是 `str`"),
        ("not a message: Expected `int`, got `str`", "不是消息：应为 `int`，实际是 `str`"),
        ("; did you mean 'isolation'?", "，是不是 'isolation'？"),
        ("naughty died each time it handled the event", "naughty 每次处理这个事件都意外终止"),
        ("naughty is quarantined", "naughty 已进入隔离区"),
        ("naughty is held", "naughty 的状态是待批准"),
        ("it is stopping", "它正在停止"),
        ("exit status 7", "退出状态 7"),
        ("killed by SIGSEGV", "被 SIGSEGV 终止"),
        ("killed by signal 40", "被信号 40 终止"),
        ("died: exit status 7", "意外终止：退出状态 7"),
        ("naughty.py:12 in loop", "naughty.py 第 12 行，loop"),
        ("silent for 4 s in p.f(), p.py:1 in f `while 1:`", "已有 4 秒没有回应：p.f()，p.py 第 1 行，f，`while 1:`"),
        ("No space left on device", "磁盘空间不足"),
        ("no space left on device", "磁盘空间不足"),
        ("[Errno 28] No space left on device: 'a'", "磁盘空间不足：'a'"),
        ("Expected '=' after a key in a key/value pair (at line 1, column 5)", "键之后缺少 '='（第 1 行，第 5 列）"),
        ("Invalid value (at end of document)", "值的写法不对（在文件末尾）"),
        ("zygote, pidfd, rlimits", "孵化进程、pidfd、rlimit"),
        (
            (
                "user, net and ipc namespaces · not: scopes, "
                "cgroups (needs delegation: systemd-run -p Delegate=yes mk run)"
            ),
            "user、net、ipc 命名空间 · 没有：作用范围、cgroups（需要委派：systemd-run -p Delegate=yes mk run）",
        ),
        ("seccomp · cgroups v1 (memory, pids)", "seccomp · cgroups v1（memory、pids）"),
        ("not: cgroups (other processes are in the same group)", "没有：cgroups（同一组里还有其他进程）"),
        ("over its limit: limits.memory is 1,024", "超过限额：limits.memory 是 1,024"),
        (" (billing.py:41 in total)", "（billing.py 第 41 行，total）"),
        ("KeyError: 'rates'", "KeyError: 'rates'"),
        ("; send instead: .tolist() or api.share()", "；请改为发送 .tolist() 或 api.share()"),
        ("; send instead: its awaited result", "；请改为发送 await 之后的结果"),
        ("; send instead: [.real, .imag]", "；请改为发送 [.real, .imag]"),
        ("str, dict or a dataclass", "str、dict 或 dataclass"),
        ("a plugin's own words", "a plugin's own words"),
        ("", ""),
    ],
)
def test_phrases(english: str, shown: str) -> None:
    assert phrase(english) == shown


@pytest.mark.parametrize(
    ("id", "fields"),
    [
        ("MK0103", {"path": "a/b.py", "line": 7, "reason": "expected ':'"}),
        ("MK0201", {"kind": "KeyError", "said": ": 'rates'", "where": " (parser.py:18 in start)"}),
        ("MK0201", {"kind": "OSError", "said": ": [Errno 28] No space left on device", "where": ""}),
        ("MK0202", {"seconds": 0.5}),
        ("MK0401", {"name": "a", "action": "on", "what": "b.c", "line": 'on = ["b.c"]'}),
        ("MK0626", {"name": "a", "size": 12345, "reason": "no space left on device"}),
        ("MK0602", {"path": "the payload", "kind": "object", "cure": "; send instead: str()"}),
        ("MK0602", {"path": ".a[3]", "kind": "numpy.ndarray", "cure": "; send instead: .tolist() or api.share()"}),
    ],
)
def test_a_reason_that_is_a_catalog_message_is_translated(id: str, fields: dict[str, object]) -> None:
    """A failed reload has another error as its reason, in English."""
    reason = Catalog.load("en").text(id, fields)
    assert phrase(reason) == Catalog.load("zh").text(id, fields)
    assert phrase("expected 'x'") in Catalog.load("zh").text("MK0203", {"reason": "expected 'x'"})


def test_text_of_a_plugin_within_a_message_is_not_translated() -> None:
    said = "b.total raised ValueError: a list"
    assert phrase(said) == "b.total 抛出 ValueError：a list"
    assert chinese("said", ": a list") == "：a list"
    assert chinese("said", "") == ""
    ours = {"name": "a", "action": "on", "what": "b.c", "line": 'on = ["b.c"]'}
    english, translated = (Catalog.load(language).text("MK0401", ours) for language in ("en", "zh"))
    assert chinese("said", f": MK0401 {english}") == f"：MK0401 {translated}"


def test_only_fields_that_carry_phrases_are_translated() -> None:
    assert chinese("state", "held") == "待批准"
    assert chinese("reason", "another version") == "版本不同"
    assert chinese("name", "held") == "held"
    assert chinese("remote_message", "a list") == "a list"
    assert chinese("reason", None) is None
    assert Catalog.load("en").text("MK0213", {"name": "x", "state": "held", "what": "emit"}) == "x is held: emit"
    assert Catalog.load("zh").text("MK0211", {"name": "x", "others": ["a", "b"]}) == (
        "x 还被 a、b 依赖；要一起停止：mk stop x --cascade"
    )


@pytest.mark.parametrize(
    ("error", "english", "translated"),
    [
        (KernelError("MK0707", names=["a", "b"]), "running: a, b;", "在运行：a、b；"),
        (KernelError("MK0211", name="x", others="a, b"), "required by a, b;", "还被 a、b 依赖"),
        (KernelError("MK0413", name="x", version="1", files="a and b.py, c.py"),
         "a and b.py, c.py  ", "a and b.py、c.py  "),
        (KernelError("MK0413", name="x", version="1", files="its files"), "its files", "它的文件"),
        (KernelError("MK0412", name="x", diff="+ net a:1, + net b:1"), "+ net a:1, + net b:1", "+ net a:1、+ net b:1"),
        (KernelError("MK0422", name="x", asked="limits.files = 9, limits.threads = 9", holds="a, b"),
         "9, limits", "9、limits"),
        (KernelError("MK0720", message="x", suggestion="; the nearest: MK0101, MK0102"),
         "MK0101, MK0102", "MK0101、MK0102"),
        (KernelError("MK0501", level="sandbox", reason="a confinement check failed: files, system calls"),
         "files, system calls", "files、system calls"),
        (KernelError("MK0302", what="Plugin object: kept by list 'a' of module b, in Plugin object"),
         "list 'a' of module b, in Plugin object", "模块 b 的列表 'a'，位于 Plugin 对象"),
    ],
)  # fmt: skip
def test_a_list_is_separated_as_its_language_does(error: KernelError, english: str, translated: str) -> None:
    assert english in error.text
    assert english in Catalog.load("en").text(error.id, error.fields)
    assert translated in Catalog.load("zh").text(error.id, error.fields)


def test_a_list_in_a_reason_is_separated_as_its_language_does() -> None:
    reason = KernelError("MK0211", name="x", others="a, b").text
    assert "还被 a、b 依赖" in Catalog.load("zh").text("MK0203", {"reason": reason})
    assert phrase("not: cgroups (memory, pids), network") == "没有：cgroups（memory, pids）、network"


def test_a_phrase_keeps_its_placeholders() -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in StringFormatter().parse(text) if name}

    for english, translated in pairs():
        assert names(translated) <= names(english), english
        assert not translated.endswith((".", "。"))


def test_a_phrase_costs_little_whatever_it_is_made_of() -> None:
    began = time.monotonic()
    for text in (
        ": " * 200,
        " (" + ":" * 200 + " in " * 45,
        "expected " * 44,
        "`" * 400,
        "invalid syntax. " + " or " * 90,
    ):
        chinese("reason", text)
    assert time.monotonic() - began < 2


def _reasons() -> Iterator[str]:
    """Yield the reasons for which hosts report a level as unavailable, with ``/x`` for each inserted value."""
    for file in sorted((SOURCE / "hosts").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                given = [*node.args[:1]] if name in ("_missing", "_unavailable") else []
                given += [each.value for each in node.keywords if each.arg == "reason"]
                yield from (text for text in map(_literal, given) if text.replace("/x", "").strip(": "))
            elif isinstance(node, ast.Return) and file.name == "image.py" and isinstance(node.value, ast.JoinedStr):
                yield from (text for text in [_literal(node.value)] if " " in text)


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "/x" for part in parts)


@pytest.mark.parametrize("reason", sorted(set(_reasons())))
def test_each_reason_for_an_unavailable_level_is_translated(reason: str) -> None:
    assert phrase(reason) != reason


def test_reasons_of_unavailable_levels_are_found() -> None:
    assert len(set(_reasons())) > 15


def test_a_wrong_value_in_chinese_has_no_english_word_and_no_space_between_chinese_characters() -> None:
    fields = {"path": "microkernel.toml", "key": "isolation", "wanted": '"thread" or "process" or "wasm"',
              "got": "the text 'proces'", "suggestion": "; did you mean 'process'?"}  # fmt: skip
    shown = Catalog.load("zh").text("MK0110", fields)
    assert shown == (
        'microkernel.toml：isolation 应为 "thread"、"process" 或 "wasm"，实际是文本 \'proces\'，是不是 \'process\'？'
    )
