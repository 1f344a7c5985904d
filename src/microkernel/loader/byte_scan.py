"""Bounds on the text of manifests and sources, checked before a parser reads them.

For some texts a parser needs thousands of times their size in memory, or takes minutes. One pass of regular expressions
that never backtrack finds these texts; its time is proportional to their length. The scan refuses texts, it does not
understand them: what it lets through is still parsed with bounds on time and memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from microkernel.errors import KernelError
from microkernel.loader.display import display_path

MANIFEST_BYTES = 64 * 1024
SOURCE_BYTES = 2 * 1024 * 1024
# tomllib keeps every prefix of a dotted key: 39 KiB of dots take 1.9 GiB.
KEY_DOTS = 16
# Python refuses to convert decimal numbers of more than 4,300 digits, in both directions; no number of a manifest is
# larger than 64 bits.
DIGITS = 20
TABLE_DEPTH = 32
BRACKET_DEPTH = 100
INDENTATION_DEPTH = 80
# CPython compiles the body of each `finally` at least twice, so nested ones grow by powers of two.
FINALLY_DEPTH = 8
LIST_ENTRIES = 256
TEXT_CHARACTERS = 4096

_TOML = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*+(?:"{3,5})?'
    r"|'''(?:[^']|'{1,2}(?!'))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+"
    r"|(?P<sign>[\[\]{}.,=\n])"
    r"|(?P<word>[A-Za-z0-9_+-]++)",
)
_NUMBER = re.compile(r"[+-]?(?:0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*)")
_SOURCE = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*+(?:""")?'
    r"|'''(?:[^'\\]|\\[\s\S]|'{1,2}(?!'))*+(?:''')?"
    r'|"(?:[^"\\\n]|\\[\s\S])*+"?'
    r"|'(?:[^'\\\n]|\\[\s\S])*+'?"
    r"|\#[^\n]*+"
    r"|\\\n"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<line>\n)(?P<indent>[ \t\f]*+)(?P<code>finally\b|(?=[^\n#]))?",
)
_TAB = 8


def scan_toml(text: str, path: str, error: type[KernelError]) -> None:
    """Refuse TOML that is too deep, or has a key or a number that is too long.

    Raises ``error``: MK0141 (nesting), MK0142 (digits), MK0143 (dots of a key).
    """
    line, depth, dots = 1, 0, 0
    for token in _TOML.finditer(text):
        sign = token["sign"]
        if sign == "\n":
            line, dots = line + 1, 0
        elif sign == ".":
            dots += 1
            if dots > KEY_DOTS:
                raise error("MK0143", path=display_path(path), line=line, most=KEY_DOTS)
        elif sign:
            dots = 0
            depth = max(0, depth + {"[": 1, "{": 1, "]": -1, "}": -1}.get(sign, 0))
            if depth > TABLE_DEPTH:
                raise _too_deep("tables and lists", TABLE_DEPTH, path, line, error)
        elif token["word"]:
            if _digits(token["word"]) > DIGITS:
                raise error("MK0142", path=display_path(path), line=line, most=DIGITS)
        else:
            line += token[0].count("\n")


def _digits(word: str) -> int:
    """Return how many digits a number has, for the limit on long ones; 0 for short numbers and for other words."""
    if len(word) <= DIGITS or not _NUMBER.fullmatch(word):
        return 0
    return len(word.replace("_", "").lstrip("+-"))


def scan_source(text: str, path: str, error: type[KernelError]) -> None:
    """Refuse Python source of which brackets, indentation or ``finally`` blocks are nested too deep.

    In Python 3.12 and later, quotes within a formatted string may mislead the scan; what it misses is left to the
    bounds on time and memory. Raises ``error`` MK0141.
    """
    brackets, line = 0, 0
    indents: list[int] = []
    finals: list[int] = []
    for token in _SOURCE.finditer("\n" + text.replace("\r\n", "\n").replace("\r", "\n")):
        if token["open"]:
            brackets += 1
            if brackets > BRACKET_DEPTH:
                raise _too_deep("brackets", BRACKET_DEPTH, path, line, error)
        elif token["close"]:
            brackets = max(0, brackets - 1)
        elif token["line"] is None:
            line += token[0].count("\n")
        else:
            line += 1
            if token["code"] is not None and not brackets:
                column = _column(token["indent"])
                _enter(indents, column, is_block=True)
                _enter(finals, column, is_block=token["code"] == "finally")
                if len(indents) > INDENTATION_DEPTH:
                    raise _too_deep("indentation", INDENTATION_DEPTH, path, line, error)
                if len(finals) > FINALLY_DEPTH:
                    raise _too_deep("`finally`", FINALLY_DEPTH, path, line, error)


def _enter(columns: list[int], column: int, *, is_block: bool) -> None:
    """Leave the blocks that a line at this column ends; enter the one that it begins."""
    while columns and columns[-1] >= column:
        columns.pop()
    if is_block:
        columns.append(column)


def _column(indent: str) -> int:
    if not indent.strip(" "):
        return len(indent)
    column = 0
    for character in indent:
        column = 0 if character == "\f" else column + (_TAB - column % _TAB if character == "\t" else 1)
    return column


def check_values(toml: dict[str, Any], path: str, error: type[KernelError]) -> None:
    """Refuse a parsed manifest with long texts or lists, or of which dotted keys make it deep.

    Raises ``error``: MK0141 (nesting), MK0144 (length). Keys are names in messages and are bounded as texts are.
    """
    waiting: list[tuple[str, Any, int]] = [("", toml, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        if depth > TABLE_DEPTH:
            raise _too_deep("tables and lists", TABLE_DEPTH, path, 1, error)
        if isinstance(value, str) and len(value) > TEXT_CHARACTERS:
            raise error("MK0144", path=display_path(path), key=key, most=TEXT_CHARACTERS, unit="characters")
        if isinstance(value, list) and len(value) > LIST_ENTRIES:
            raise error("MK0144", path=display_path(path), key=key, most=LIST_ENTRIES, unit="entries")
        waiting += [(name, each, depth + 1) for name, each in _below(key, value)]


def _below(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from ((key, each) for each in value)
    if isinstance(value, dict):
        for name, each in value.items():
            yield key, name
            yield name[:100], each


def _too_deep(what: str, most: int, path: str, line: int, error: type[KernelError]) -> KernelError:
    return error("MK0141", path=display_path(path), line=line, what=what, most=most)
