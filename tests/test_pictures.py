"""The recorded pictures of the two READMEs are there, complete, and load nothing from elsewhere."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from tools.record_terminal import PICTURES, render


def text_of(picture: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", picture.partition("</style>")[2])).replace("\xa0", " ")


@pytest.mark.parametrize("path", PICTURES.values(), ids=PICTURES)
def test_a_picture_shows_the_whole_session(path: Path) -> None:
    text = text_of(path.read_text(encoding="utf-8"))
    shown = ("mk run", "call shop.sell 3", "MK0207", "MK0613", "MK0305", "call shop.sell 2", "page.found", "sandbox")
    assert [each for each in shown if each not in text] == []


@pytest.mark.parametrize("path", PICTURES.values(), ids=PICTURES)
def test_a_picture_loads_nothing(path: Path) -> None:
    picture = path.read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\"' )]+", picture) == ["http://www.w3.org/2000/svg"]
    assert "@font-face" not in picture
    assert "<script" not in picture


def test_a_screen_is_rendered_with_its_colours_and_without_empty_lines_at_its_end() -> None:
    picture = render("$ mk run\n\x1b[32m✓ shop\x1b[39m  active\n\n\n")
    assert "✓ shop" in text_of(picture)
    assert "rgb(166,227,161)" in picture or "#a6e3a1" in picture
    assert picture == render("$ mk run\n\x1b[32m✓ shop\x1b[39m  active")
