"""Widths on a terminal, where a Chinese character takes two cells. For texts of our own; tables use ``rich.cells``."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

_CLOSING = "，。：；、！？）》”’"
_OPENING = "（《“‘"
_WIDE = r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]"
_CODE = r"\(?`[^`]{1,40}`[.,;:)]*"
_WORD = rf"(?:(?!{_WIDE})[^\s{_OPENING}{_CLOSING}])+"
_PIECE = re.compile(rf"\s+|[{_OPENING}]*(?:{_CODE}|{_WIDE}|{_WORD})[{_CLOSING}]*|.")


def width(text: str) -> int:
    """Cells that a line takes."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def pad(text: str, cells: int) -> str:
    """The text with spaces after it, ``cells`` wide or as wide as it is."""
    return text + " " * (cells - width(text))


def wrap(text: str, cells: int) -> list[str]:
    """Lines of at most ``cells``: broken at spaces and between Chinese characters, never before closing punctuation nor
    within a short piece of `code`.

    A word wider than a line stands on a line of its own.
    """
    lines = [""]
    for piece in _PIECE.findall(text):
        if width(lines[-1] + piece.rstrip()) > cells and lines[-1]:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        if lines[-1] or not piece.isspace():
            lines[-1] += piece
    return [line for line in lines if line] or [""]
