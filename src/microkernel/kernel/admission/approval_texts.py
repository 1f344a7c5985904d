"""Escape texts of a plugin for the person who approves them. Pure.

A person approves the exact text, not its appearance. So a text is shown on one line, without invisible characters and
without characters that look like others.
"""

from __future__ import annotations

import re

_HIDDEN_SPACES = re.compile(r"^ +| {2,}| +$")
# Prefixes of Unicode names of clear characters. Non-ASCII Latin, Greek and Cyrillic letters look like ASCII ones.
_SCRIPTS = ("CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER", "HANGUL SYLLABLE")
_LOOKS_LIKE_A_SLASH = "\u30ce"


def unmistakable(text: str) -> str:
    """Escape everything except printable ASCII and the letters of Chinese, Japanese and Korean.

    Leading, trailing and repeated spaces are escaped too; a backslash is doubled.
    """
    hidden = {at for run in _HIDDEN_SPACES.finditer(text) for at in range(*run.span())}
    if not hidden and text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(char) if at in hidden or not _is_clear(char) else char for at, char in enumerate(text))


def _is_clear(char: str) -> bool:
    if char.isascii():
        return char.isprintable() and char != "\\"
    import unicodedata  # few texts need it

    return unicodedata.name(char, "").startswith(_SCRIPTS) and char != _LOOKS_LIKE_A_SLASH


def _escape(char: str) -> str:
    if char == "\\":
        return "\\\\"
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
