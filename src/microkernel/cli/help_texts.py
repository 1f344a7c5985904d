"""Help in the reader's language. typer's own words are English, and its types are those of Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from microkernel.messages.terminal_width import width

Word = Callable[[str], str]
Function = TypeVar("Function", bound=Callable[..., Any])

_HEADINGS = {"Options:": "options", "Arguments:": "arguments", "Commands:": "commands"}
_TYPE = re.compile(r" <(?:\w+|list\[\w+\])>(?= |$)")
# The columns of a line: an option or an argument with its value, and its description.
_ROW = re.compile(r"(?P<left>  \S+(?: \S+)*)(?P<gap> {2,}|$)(?P<right>.*)")
_REMARK = re.compile(r"\[(?:(required)|(default|env var): ([^\]]*))\]")
_HELP = "Show this message and exit."
_PLACES = ("[OPTIONS]", "[ARGS]...")
# Words in capitals are placeholders.
_PLACEHOLDER = re.compile(r"(?<![\w-])[A-Z]+(?![\w-])")


class HelpfulTyper(typer.Typer):
    """A Typer whose commands describe themselves with the texts of the catalog table ``typer``.

    ``word`` returns the key itself for an unknown placeholder.
    """

    def __init__(self, word: Word, **settings: Any) -> None:
        self._word = word
        super().__init__(cls=_kind(TyperGroup, word), **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        return super().command(name, cls=_kind(TyperCommand, self._word), **settings)


def _kind(base: Any, word: Word) -> Any:
    def get_help(self: Any, context: typer.Context) -> str:
        return in_words(base.get_help(self, context), word)

    return type(base.__name__, (base,), {"get_help": get_help})


def in_words(text: str, word: Word) -> str:
    """Replace typer's words in a help page. Unknown words stay unchanged."""
    return "\n".join(_line(line, word) for line in text.splitlines())


def _line(line: str, word: Word) -> str:
    if line in _HEADINGS:
        return word(_HEADINGS[line])
    if line.startswith("Usage: "):
        return _joined(word("usage"), _placeholders(line.removeprefix("Usage: "), word))
    row = _ROW.fullmatch(_TYPE.sub("", line))
    if row is None:
        return line
    left = _placeholders(row["left"], word)
    gap = row["gap"] + " " * (width(row["left"]) - width(left)) if row["right"] else ""
    right = _REMARK.sub(lambda found: _remark(found, word), row["right"].replace(_HELP, word("help")))
    return left + gap + right


def _placeholders(text: str, word: Word) -> str:
    for place in _PLACES:
        text = text.replace(place, word(place))
    return _PLACEHOLDER.sub(lambda found: word(found[0]), text)


def _remark(found: re.Match[str], word: Word) -> str:
    if found[1]:
        return f"[{word('required')}]"
    return f"[{_joined(word(found[2].replace(' ', '_')), found[3])}]"


def _joined(word: str, text: str) -> str:
    """Join two texts with a space, except after a full-width colon, which includes one."""
    return f"{word}{text}" if word.endswith("：") else f"{word} {text}"
