"""Texts of a plugin as a person who approves them reads them. Pure.

What is approved is the text, and not what it looks like: so it is shown on one line, and no character of it is unseen
or looks like another one.
"""

from __future__ import annotations

import re

_HIDDEN_SPACES = re.compile(r"^ +| {2,}| +$")
# By the beginning of their names. Latin letters beside ASCII, Greek and Cyrillic have look-alikes in ASCII.
_SCRIPTS = ("CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER", "HANGUL SYLLABLE")
_LOOKS_LIKE_A_SLASH = "\u30ce"


def unmistakable(text: str) -> str:
    """The text with everything escaped but printable ASCII and the letters of Chinese, Japanese and Korean. Spaces are
    escaped where they are at an end or follow each other; a backslash is doubled."""
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
