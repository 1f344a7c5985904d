"""Translate the English fragments in a message's fields, such as reasons, to Chinese.

Fragments are looked up in ``phrases_zh.toml``. A fragment that is itself a message of the catalog, as reasons often
are, is translated with the Chinese catalog. ``str(error)`` always stays English; only the texts shown to Chinese
readers are translated.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from microkernel.messages.formatting import Formatter
from microkernel.messages.glossary import state_word
from microkernel.messages.templates import bare, letters_of, pattern_of, words_of

_FIELDS = frozenset({
    "reason", "kind", "what", "said", "where", "suggestion", "cure", "wanted", "got", "state", "new", "kept", "first",
})  # fmt: skip
# Fields that are lists, already joined in English, because a field of an error is one text.
_LISTS = frozenset({"others", "files", "diff", "asked", "holds"})
# Longer texts come from plugins and are not translated.
_LONGEST = 400
_FORMATTER = Formatter()
_AND = " · "
# Commas within parentheses separate no items.
_BETWEEN_ITEMS = re.compile(r", (?![^()]*\))")
_MESSAGE_ID = re.compile(r"MK\d{4} ")
# Fewest letters outside placeholders by which a message is recognized; ``{path}: {reason}`` has none.
_FEWEST_LETTERS = 6


class _Phrase(NamedTuple):
    pattern: re.Pattern[str]
    # Parts that a text must contain to match. They are checked first, because that is cheap.
    words: tuple[str, ...]
    template: str
    # From the name and text of a placeholder to the text shown.
    translate: Callable[[str, str], str]


def chinese(field: str, value: Any) -> Any:
    """Return the value of a field in Chinese; unchanged if no phrase matches.

    A path is only looked up as a whole, because its parts are names of files or keys.
    """
    if field == "path" and isinstance(value, str):
        return read("phrases_zh.toml")["path"].get(value, value)
    if field in _LISTS and isinstance(value, str):
        return read("phrases_zh.toml")["lists"].get(value) or value.replace(", ", separator("zh"))
    if field not in _FIELDS or not isinstance(value, str) or len(value) > _LONGEST:
        return value
    if field == "state":
        value = state_word(value, "zh")
    return _exception_text(value) if field == "said" else phrase(value)


def _exception_text(value: str) -> str:
    """Translate the text of an exception only if it is a message of the catalog; otherwise a plugin wrote it."""
    text = value.removeprefix(": ")
    return f"：{phrase(text) if _MESSAGE_ID.match(text) else text}" if text else value


@lru_cache(maxsize=512)
def phrase(text: str) -> str:
    """Return the Chinese phrase for a text, or the text if no phrase matches.

    Parts separated by `` · `` are looked up separately, and of ``head: tail`` the tail alone if only that is known.
    """
    for each in _phrases():
        match = each.pattern.fullmatch(text) if all(word in text for word in each.words) else None
        if match:
            parts = {name: each.translate(name, part) for name, part in match.groupdict().items()}
            return _FORMATTER.fill(each.template, parts)
    if _AND in text:
        return _AND.join(map(phrase, text.split(_AND)))
    head, _, tail = text.partition(": ")
    known = phrase(tail) if tail else tail
    return text if known == tail else f"{head}：{known}"


def pairs() -> Iterator[tuple[str, str]]:
    """Yield all phrases as pairs of English and Chinese."""
    for table in read("phrases_zh.toml").values():
        yield from table.items()


@cache
def read(name: str) -> Mapping[str, Any]:
    """Return the content of a TOML file of this package."""
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))


def separator(language: str) -> str:
    """Return the text between the items of a list in a language."""
    return str(read(f"ui_{language}.toml")["list"]["separator"])


@cache
def _phrases() -> list[_Phrase]:
    return [*_messages(), *_listed()]


def _listed() -> Iterator[_Phrase]:
    for name, table in read("phrases_zh.toml").items():
        is_system = name == "system"  # errno texts, which vary in upper and lower case
        for english, chinese in table.items():
            words = () if is_system else words_of(english)
            yield _Phrase(pattern_of(english, re.IGNORECASE if is_system else 0), words, chinese, _part)


def _messages() -> list[_Phrase]:
    """Yield the messages of the catalog as phrases, the longest and therefore least ambiguous ones first."""
    translations = read("zh.toml")
    known = [
        (english["text"], translations[id]["text"])
        for id, english in read("en.toml").items()
        if id in translations and letters_of(english["text"]) >= _FEWEST_LETTERS
    ]
    known.sort(key=lambda pair: -letters_of(pair[0]))
    return [_Phrase(pattern_of(english), words_of(english), bare(template), chinese) for english, template in known]


def _part(name: str, part: str) -> str:
    if name == "choices":
        *others, last = part.split(" or ")
        return f"{separator('zh').join(others)} 或 {last}"
    if name == "chain":
        return "，位于 ".join(map(phrase, part.split(", in ")))
    if name == "list":
        return separator("zh").join(re.split(", | and ", part))
    if name == "items":
        return separator("zh").join(map(phrase, _BETWEEN_ITEMS.split(part)))
    return state_word(part, "zh") if name == "state" else phrase(part)
