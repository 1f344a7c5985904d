"""Reasons in Chinese: a message's fields carry English fragments, for which there is a list of phrases. A fragment that
is itself a message of ours, as a reason often is, is told in the words of the Chinese catalog.

``str(error)`` is English and stays so; only what a Chinese reader is shown goes through here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from microkernel.messages.glossary import state_word
from microkernel.messages.templates import bare, letters_of, pattern_of, words_of

_FIELDS = frozenset({
    "reason", "kind", "what", "said", "where", "suggestion", "cure", "wanted", "got", "state", "new", "kept",
})  # fmt: skip
_LONGEST = 400
"""Longer texts are a plugin's own; they are shown as they are."""
_AND = " · "
_OURS = re.compile(r"MK\d{4} ")
_TELLING = 6
"""A message with fewer letters of its own, such as ``{path}: {reason}``, is not known again by them."""


class _Phrase(NamedTuple):
    pattern: re.Pattern[str]
    words: tuple[str, ...]
    """What a text must have to fit; looked for first, because that is cheap."""
    template: str
    translate: Callable[[str, str], str]
    """From a placeholder's name and text to what is shown."""


def chinese(field: str, value: Any) -> Any:
    """A field's value as a Chinese reader should see it; unchanged where no phrase fits.

    A path is looked up as a whole: what is in it is the name of a file or a key.
    """
    if field == "path" and isinstance(value, str):
        return read("phrases_zh.toml")["path"].get(value, value)
    if field not in _FIELDS or not isinstance(value, str) or len(value) > _LONGEST:
        return value
    if field == "state":
        value = state_word(value, "zh")
    return _said(value) if field == "said" else phrase(value)


def _said(value: str) -> str:
    """What an exception said is a plugin's own, unless it is a message of ours."""
    text = value.removeprefix(": ")
    return f"：{phrase(text) if _OURS.match(text) else text}" if text else value


@lru_cache(maxsize=512)
def phrase(text: str) -> str:
    """The phrase for a text; what stands between dots is looked up by itself, and ``head: tail`` is taken apart where
    only the tail is known."""
    for each in _phrases():
        match = each.pattern.fullmatch(text) if all(word in text for word in each.words) else None
        if match:
            parts = {name: each.translate(name, part) for name, part in match.groupdict().items()}
            return each.template.format(**parts)
    if _AND in text:
        return _AND.join(map(phrase, text.split(_AND)))
    head, _, tail = text.partition(": ")
    known = phrase(tail) if tail else tail
    return text if known == tail else f"{head}：{known}"


def pairs() -> Iterator[tuple[str, str]]:
    """All phrases, English and Chinese."""
    for table in read("phrases_zh.toml").values():
        yield from table.items()


@cache
def read(name: str) -> Mapping[str, Any]:
    """One of the files beside this module."""
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))


@cache
def _phrases() -> list[_Phrase]:
    return [*_messages(), *_listed()]


def _listed() -> Iterator[_Phrase]:
    for name, table in read("phrases_zh.toml").items():
        is_system = name == "system"  # says the same in small and in capital letters
        for english, chinese in table.items():
            words = () if is_system else words_of(english)
            yield _Phrase(pattern_of(english, re.IGNORECASE if is_system else 0), words, chinese, _part)


def _messages() -> list[_Phrase]:
    """The messages themselves, those first that are the surest to be known again."""
    theirs = read("zh.toml")
    known = [
        (english["text"], theirs[id]["text"])
        for id, english in read("en.toml").items()
        if id in theirs and letters_of(english["text"]) >= _TELLING
    ]
    known.sort(key=lambda pair: -letters_of(pair[0]))
    return [_Phrase(pattern_of(english), words_of(english), bare(template), chinese) for english, template in known]


def _part(name: str, part: str) -> str:
    if name == "list":
        return "、".join(re.split(", | and ", part))
    return state_word(part, "zh") if name == "state" else phrase(part)
