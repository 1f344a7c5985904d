"""Reasons in Chinese: a message's fields carry English fragments, for which there is a list of phrases.

``str(error)`` is English and stays so; only what a Chinese reader is shown goes through here.
"""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from microkernel.messages.glossary import state_word

_FILE = Path(__file__).parent / "phrases_zh.toml"
_FIELDS = frozenset({"reason", "what", "said", "where", "suggestion", "wanted", "got", "state"})
_LONGEST = 400
"""Longer texts are a plugin's own; they are shown as they are."""


def chinese(field: str, value: Any) -> Any:
    """A field's value as a Chinese reader should see it; unchanged where no phrase fits."""
    if field not in _FIELDS or not isinstance(value, str) or len(value) > _LONGEST:
        return value
    if field == "state":
        value = state_word(value, "zh")
    return phrase(value)


@lru_cache(maxsize=512)
def phrase(text: str) -> str:
    """The phrase for a text; ``head: tail`` is taken apart where only the tail is known."""
    for pattern, template in _phrases():
        match = pattern.fullmatch(text)
        if match:
            return template.format(**{name: phrase(part) for name, part in match.groupdict().items()})
    head, _, tail = text.partition(": ")
    known = phrase(tail) if tail else tail
    return text if known == tail else f"{head}：{known}"


def pairs() -> Iterator[tuple[str, str]]:
    """All phrases, English and Chinese."""
    for table in tomllib.loads(_FILE.read_text(encoding="utf-8")).values():
        yield from table.items()


@cache
def _phrases() -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(english), chinese) for english, chinese in pairs()]


def _pattern(template: str) -> re.Pattern[str]:
    """A regular expression for a template: ``{name}`` is a group, everything else itself."""
    parts = (
        re.escape(text) + (f"(?P<{name}>.+?)" if name else "")
        for text, name, _, _ in string.Formatter().parse(template)
    )
    return re.compile("".join(parts), re.DOTALL)
