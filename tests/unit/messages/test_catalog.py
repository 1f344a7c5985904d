"""Both catalogs are complete and consistent, and every id in the code is in them."""

from __future__ import annotations

import re
import string
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from microkernel import errors
from microkernel.errors import KernelError, MailboxFull
from microkernel.messages import Catalog, MessageLevel, language, translate

SOURCE = Path(__file__).parents[3] / "src" / "microkernel"
MESSAGES = SOURCE / "messages"
KEYS = ["level", "text", "title", "what_happened", "why", "kernel_action", "your_action"]


# In the catalogs, and used nowhere in src yet: the kernel, its hosts and the command line are still being written.
# Take out what is used; in the end only ids of levels that come later may be left.
@cache
def tables(name: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((MESSAGES / name).read_text(encoding="utf-8"))


ENGLISH = tables("en.toml")
CHINESE = tables("zh.toml")


def placeholders(text: str) -> list[tuple[str, str | None, str | None]]:
    return sorted((name, spec, how) for _, name, spec, how in string.Formatter().parse(text) if name is not None)


def ids_in_source(pattern: str) -> set[str]:
    return {id for file in SOURCE.rglob("*.py") for id in re.findall(pattern, file.read_text(encoding="utf-8"))}


def test_both_languages_have_the_same_ids() -> None:
    assert ENGLISH.keys() == CHINESE.keys()


@pytest.mark.parametrize("id", sorted(ENGLISH.keys() & CHINESE.keys()))
def test_both_languages_have_the_same_shape(id: str) -> None:
    english, chinese = ENGLISH[id], CHINESE[id]
    assert english.keys() == chinese.keys()
    assert english["level"] == chinese["level"]
    assert placeholders(english["text"]) == placeholders(chinese["text"])


@pytest.mark.parametrize(("name", "id"), [(n, id) for n in ("en.toml", "zh.toml") for id in sorted(tables(n))])
def test_an_entry_is_complete(name: str, id: str) -> None:
    entry = tables(name)[id]
    assert {"level", "text", "title", "what_happened"} <= entry.keys() <= set(KEYS)
    assert all(text.strip() and "\n" not in text for text in entry.values())
    assert MessageLevel(entry["level"])


@pytest.mark.parametrize("id", sorted(ENGLISH))
def test_english_explanations_are_sentences_and_lines_are_not(id: str) -> None:
    entry = ENGLISH[id]
    assert not entry["title"].endswith(".")
    assert not entry["text"].endswith(".")
    for key in set(KEYS[3:]) & entry.keys():
        assert entry[key].endswith((".", ")", "`")), key


@pytest.mark.parametrize("id", sorted(CHINESE))
def test_chinese_uses_chinese_punctuation(id: str) -> None:
    entry = CHINESE[id]
    for key in KEYS[1:3]:
        assert not entry[key].endswith((".", "。")), key
    for key in set(KEYS[3:]) & entry.keys():
        assert entry[key].endswith("。"), key
    for key in set(KEYS[1:]) & entry.keys():
        prose = re.sub(r"`[^`]*`", "`code`", entry[key])
        assert not re.search(r"[\u4e00-\u9fff][,.;:?!]|[,;?!][\u4e00-\u9fff]", prose), key
        assert not re.search(r"[\u4e00-\u9fff][A-Za-z0-9`]|[A-Za-z0-9`][\u4e00-\u9fff]", prose), key


def test_every_id_in_the_source_is_in_both_catalogs() -> None:
    assert ids_in_source(r"\bMK\d{4}\b") <= ENGLISH.keys() & CHINESE.keys()


def test_every_id_in_the_catalogs_is_used() -> None:
    """An id counts as used if it starts a string; within a docstring it is only mentioned."""
    assert ENGLISH.keys() - ids_in_source(r"[\"'](MK\d{4})\b") == set()


def test_the_command_line_has_the_same_words_in_both_languages() -> None:
    english, chinese = Catalog.load("en").words(), Catalog.load("zh").words()
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert text.strip(), key
        assert chinese[key].strip(), key
        assert placeholders(text) == placeholders(chinese[key]), key


def test_words() -> None:
    assert Catalog.load("en").word("ps.plugin") == "plugin"
    assert Catalog.load("zh").word("ps.plugin") == "插件"
    assert Catalog.load("zh").word("glossary.none", word="x") == "没有这个术语：x"
    assert Catalog.load("zh").word("no.such") == "no.such"


@pytest.mark.parametrize(
    ("explicit", "environ", "expected"),
    [
        (None, {}, "en"),
        (None, {"LANG": "zh_CN.UTF-8"}, "zh"),
        (None, {"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        (None, {"LC_MESSAGES": "en_GB.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ("en", {"LC_ALL": "zh_CN.UTF-8"}, "en"),
        ("en", {"LC_ALL": "en_GB.UTF-8", "MK_LANG": "zh"}, "zh"),
        ("zh", {"MK_LANG": "en"}, "en"),
        ("", {"MK_LANG": " ", "LC_ALL": "", "LANG": "ZH-Hans"}, "zh"),
        (None, {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        (None, {"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_language(explicit: str | None, environ: dict[str, str], expected: str) -> None:
    assert language(explicit, environ) == expected


def test_the_language_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MK_LANG", "zh")
    assert language("en") == "zh"


def test_a_catalog_is_loaded_once() -> None:
    assert Catalog.load("zh") is Catalog.load("zh")
    assert Catalog.load("fr") is Catalog.load("en")
    assert Catalog.load("zh").language == "zh"
    assert Catalog.load("en").ids() == sorted(ENGLISH)


def test_lookups() -> None:
    catalog = Catalog.load("zh")
    entry = catalog.entry("MK0207")
    assert entry is not None
    assert (entry.id, entry.level, entry.title) == ("MK0207", MessageLevel.WARN, "插件还活着，但没有回应")
    assert catalog.title("MK0207") == entry.title
    assert catalog.level("MK0207") is MessageLevel.WARN
    assert catalog.entry("MK9999") is None
    assert catalog.title("MK9999") == "MK9999"
    assert catalog.level("MK9999") is MessageLevel.ERROR


def test_an_error_is_translated() -> None:
    error = KernelError("MK0103", path="plugins/report.py", line=7, reason="expected ':' after \"def total(self)\"")
    english = "MK0103  plugins/report.py:7: invalid syntax: expected ':' after \"def total(self)\""
    assert translate(error, Catalog.load("en")) == english
    chinese = "MK0103  plugins/report.py 第 7 行：语法错误，\"def total(self)\" 后缺少 ':'"
    assert translate(error, Catalog.load("zh")) == chinese
    full = MailboxFull("MK0609", name="parser", size=10000)
    assert translate(full, Catalog.load("en")) == "MK0609  parser's mailbox is full (10,000 waiting)"


def test_an_unknown_id_is_shown_with_its_fields() -> None:
    error = KernelError("MK9999", reason="odd", seconds=0.5)
    assert translate(error, Catalog.load("zh")) == "MK9999 reason='odd' seconds=0.5"


def test_errors_read_their_texts_without_a_toml_parser_and_read_the_same() -> None:
    template = {id: entry["text"] for id, entry in ENGLISH.items()}
    assert errors._english() == template


def test_texts_missing_in_chinese_come_from_english(monkeypatch: pytest.MonkeyPatch) -> None:
    chinese = Catalog("zh")
    monkeypatch.setitem(chinese.__dict__, "_entries", {})
    monkeypatch.setitem(chinese.__dict__, "_words", {})
    assert chinese.text("MK0219", {}) == "stopped"
    assert chinese.word("ps.plugin") == "plugin"
    assert chinese.title("MK0219") == "a plugin stopped"


@pytest.mark.parametrize("name", ["en", "zh"])
def test_no_text_raises_whatever_the_fields_are(name: str) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    catalog = Catalog.load(name)
    odd: list[Any] = [None, 1, 0.1234, "a\x1b[2Jb\nc", b"x", [1.0, None], {"a": 1}, Broken(), True]
    for id, entry in ENGLISH.items():
        assert catalog.text(id, {})
        for value in odd:
            line = catalog.text(id, {field: value for field, _, _ in placeholders(entry["text"])})
            assert line
            assert line.isprintable()


def test_a_file_that_is_already_loaded_is_named_in_chinese_too() -> None:
    fields = {
        "name": "a",
        "first": "the same file",
        "second": "/a.py",
        "cure": "; to load a changed source: mk reload a",
    }
    text = translate(errors.PluginLoadError("MK0107", **fields), Catalog.load("zh"))
    assert text == "MK0107  /a.py 没有加载：插件名 a 已被同一个文件使用；要加载改动后的源码：mk reload a"
