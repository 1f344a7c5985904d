"""Widths on a terminal, where a Chinese character takes two cells. For catalog texts; tables use ``rich.cells``."""

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
    """Return the number of cells that a line takes."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def pad(text: str, cells: int) -> str:
    """Return the text padded with spaces to at least ``cells`` cells."""
    return text + " " * (cells - width(text))


def wrap(text: str, cells: int) -> list[str]:
    """Wrap text to lines of at most ``cells`` cells.

    Lines break at spaces and between Chinese characters, never before closing punctuation or within a short piece of
    `code`. A word wider than a line gets its own line.
    """
    lines = [""]
    for piece in _PIECE.findall(text):
        if width(lines[-1] + piece.rstrip()) > cells and lines[-1]:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        if lines[-1] or not piece.isspace():
            lines[-1] += piece
    return [line for line in lines if line] or [""]
