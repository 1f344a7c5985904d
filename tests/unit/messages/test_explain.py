"""``mk explain`` is readable and aligned in both languages, and tolerant of the form of the id."""

from __future__ import annotations

import re

import pytest

from microkernel.errors import KernelError
from microkernel.messages import Catalog, explain, message_id, nearest, render, translate
from microkernel.messages.terminal_width import pad, width, wrap

EN = Catalog.load("en")
ZH = Catalog.load("zh")


@pytest.mark.parametrize(
    ("code", "id"),
    [("MK0207", "MK0207"), ("0207", "MK0207"), ("mk0207", "MK0207"), (" mk 207 ", "MK0207"), ("foo", "foo"), ("", "")],
)
def test_ids_as_people_type_them(code: str, id: str) -> None:
    assert message_id(code) == id


def test_sections_in_english() -> None:
    title, *sections = explain("0207", EN, ZH)
    assert title == ("MK0207 · warn · a plugin is alive but silent", "插件还活着，但没有回应")
    assert [heading for heading, _ in sections] == [
        "What happened",
        "Why it matters",
        "Kernel action",
        "What you can do",
    ]
    assert all(text for _, text in sections)


def test_sections_in_chinese() -> None:
    title, *sections = explain("mk0207", ZH, EN)
    assert title == ("MK0207 · 警告 · 插件还活着，但没有回应", "a plugin is alive but silent")
    assert [heading for heading, _ in sections] == ["发生了什么", "有什么影响", "内核如何处理", "你可以怎么做"]


def test_empty_sections_are_left_out() -> None:
    assert [heading for heading, _ in explain("MK0219", EN, EN)[1:]] == [
        "What happened",
        "Why it matters",
        "What you can do",
    ]


def test_one_language_shows_one_title() -> None:
    assert render("MK0219", EN, EN).splitlines()[0] == "MK0219 · notice · a plugin stopped"


def test_rendered() -> None:
    lines = render("MK0207", EN, ZH).splitlines()
    assert lines[0] == "MK0207 · warn · a plugin is alive but silent          插件还活着，但没有回应"
    assert lines[1] == ""
    assert lines[2].startswith("What happened   A handler")
    assert lines[5].startswith("What you can do Make")
    assert len(lines) == 6


@pytest.mark.parametrize("columns", [40, 60, 100])
@pytest.mark.parametrize("catalog", [EN, ZH])
def test_wrapped_and_aligned(catalog: Catalog, columns: int) -> None:
    for id in catalog.ids():
        for line in render(id, catalog, EN, columns).splitlines()[2:]:
            assert width(line) <= columns or len(line.split()) == 1 or "`" in line or "/" in line, line
            assert not line.lstrip().startswith(("，", "。", "；", "、", "）"))


@pytest.mark.parametrize(
    ("code", "near"), [("MK0270", "MK0207"), ("9101", "MK0101"), ("2", "MK0102"), ("02o7", "MK0207")]
)
def test_the_nearest_ids(code: str, near: str) -> None:
    assert near in nearest(code, EN.ids())


@pytest.mark.parametrize("code", ["0270", "9101", "MK02O7"])
def test_an_unknown_id_names_the_nearest(code: str) -> None:
    with pytest.raises(KernelError) as caught:
        explain(code, ZH, EN)
    assert caught.value.id == "MK0720"
    assert "相近的有：MK" in translate(caught.value, ZH)


@pytest.mark.parametrize("code", ["MK9999", "8888", "12345", "foo"])
def test_a_code_that_is_near_to_none_gets_the_form_of_ids(code: str) -> None:
    with pytest.raises(KernelError) as caught:
        explain(code, ZH, EN)
    assert translate(caught.value, ZH) == f"MK0720  没有消息 {code}；编号是 MK 加四位数字，例如 MK0101"


def test_cells() -> None:
    assert width("插件 ok") == 7
    assert pad("插件", 6) == "插件  "
    assert pad("plugins", 3) == "plugins"
    assert wrap("", 10) == [""]
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("处理者的名字，很长", 12) == ["处理者的名", "字，很长"]
    assert wrap("set `a = b` now", 9) == ["set", "`a = b`", "now"]
    assert wrap("unbreakable-word x", 5) == ["unbreakable-word", "x"]


@pytest.mark.parametrize("catalog", [Catalog.load("en"), ZH], ids=["en", "zh"])
def test_an_explanation_has_no_unfilled_placeholder(catalog: Catalog) -> None:
    """Only the text has fields; in an explanation they would be shown as they are written."""
    for id in catalog.ids():
        shown = render(id, catalog, catalog)
        assert not re.search(r"\{[a-z_]+\}", shown), shown


def test_a_missing_requirement_is_published_at_two_moments() -> None:
    """Not "now and then", which means occasionally."""
    entry = EN.entry("MK0225")
    assert entry is not None
    assert "for this plugin now, and another one then" in entry.kernel_action


@pytest.mark.parametrize(
    ("id", "commands"),
    [
        ("MK0105", ["enabled = false", "microkernel.toml"]),
        ("MK0113", ["def start(self):"]),
        ("MK0213", ["mk start", "--reset", "mk approve"]),
        ("MK0223", ["mk info", "mk logs", "--reset"]),
        ("MK0315", ["mk start", "mk unload"]),
        ("MK0401", ["[tool.microkernel.permissions]", "[permissions]", "mk reload", "mk approve"]),
        ("MK0425", ["fs.write", "mk reload"]),
        ("MK0518", [".limits]", "mk reload", "mk info"]),
        ("MK0604", ["mk info", "@expose", "mk reload"]),
        ("MK0612", ["mk run", "with Kernel(...)"]),
    ],
)
def test_a_cure_names_what_to_type(id: str, commands: list[str]) -> None:
    for catalog in (Catalog.load("en"), ZH):
        entry = catalog.entry(id)
        assert entry is not None
        assert [each for each in commands if each not in entry.your_action] == []


@pytest.mark.parametrize(
    ("error", "english", "chinese"),
    [
        (KernelError("MK0101", path="x"), "x: no such file or directory", "x：没有这个文件或目录"),
        (KernelError("MK0213", name="store", state="stopped", what="store.get cannot be called",
                     cure="; to start it: mk start store"),
         "store is stopped: store.get cannot be called; to start it: mk start store",
         "store 的状态是“已停止”：不能调用 store.get；要启动它：mk start store"),
        (KernelError("MK0101", path="x", cure="; to write a plugin: mk new NAME"),
         "x: no such file or directory; to write a plugin: mk new NAME",
         "x：没有这个文件或目录；要写一个插件：mk new NAME"),
        (KernelError("MK0602", path="order.file", kind="PosixPath", cure="; send instead: str()"),
         "order.file is not plain data: PosixPath; send instead: str()",
         "order.file 不是普通数据：PosixPath；请改为发送 str()"),
        (KernelError("MK0605", reason="shop.price: missing a required argument: 'item'",
                     cure="; the method is price(item: str, count: int = 1)"),
         "shop.price: missing a required argument: 'item'; the method is price(item: str, count: int = 1)",
         "shop.price：缺少参数 'item'；方法是 price(item: str, count: int = 1)"),
        (KernelError("MK0604", target="shop.cost", suggestion="; the methods of shop: price, total_of"),
         "no method shop.cost; the methods of shop: price, total_of",
         "没有方法 shop.cost；shop 的方法有：price、total_of"),
        (KernelError("MK0604", target="shop.cost", suggestion="; mk info shop lists its methods"),
         "no method shop.cost; mk info shop lists its methods",
         "没有方法 shop.cost；用 mk info shop 查看它的方法"),
        (KernelError("MK0604", target="shop.cost", suggestion="; shop exposes no methods"),
         "no method shop.cost; shop exposes no methods",
         "没有方法 shop.cost；shop 没有公开任何方法"),
        (KernelError("MK0720", message="MK0241", suggestion="; the nearest: MK0214, MK0211"),
         "no message MK0241; the nearest: MK0214, MK0211",
         "没有消息 MK0241；相近的有：MK0214、MK0211"),
    ],
)  # fmt: skip
def test_a_cure_ends_the_line_in_both_languages(error: KernelError, english: str, chinese: str) -> None:
    assert error.text == english
    assert ZH.text(error.id, error.fields) == chinese
