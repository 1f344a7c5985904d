"""Texts in the reader's language: words that were passed in, and message texts requested by id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from microkernel.errors import KernelError, valid_text

Tell = Callable[[str, Mapping[str, Any]], str]

# A message whose text consists of its reason.
_ONLY_A_REASON = "MK0605"
_BLANK = {ord("\t"): "    ", ord("\n"): " ", ord("\r"): " "}


def plain(text: str) -> str:
    """Return one line that cannot control a terminal. Text from plugins is shown, never interpreted."""
    if text.isprintable():
        return text
    text = valid_text(text)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text.translate(_BLANK))


def terminal_safe(text: str) -> str:
    """Return several lines that cannot control a terminal. All output of ``mk`` and the console passes through this
    (``view.render``)."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))


class Translator:
    """Translates for one reader. ``words`` are the texts of the command line by key; ``tell`` returns the text of a
    message by id and fields."""

    def __init__(self, language: str, words: Mapping[str, str], tell: Tell) -> None:
        self.language = language
        self.tell = tell
        self._words = words

    def word(self, key: str, /, **fields: object) -> str:
        """Return a text by key; an unknown key is returned unchanged."""
        text = self._words.get(key, key)
        return text.format_map({name: self._shown(value) for name, value in fields.items()}) if fields else text

    def _shown(self, value: object) -> str:
        return self.listed(value) if isinstance(value, list | tuple) else plain(str(value))

    def listed(self, items: Iterable[object]) -> str:
        """Return the items of a list in one line, as the reader's language separates them."""
        return self._words.get("list.separator", ", ").join(plain(str(item)) for item in items)

    def word_or(self, key: str, other: str) -> str:
        """Return a text by key, or ``other`` if the key is unknown."""
        return self._words.get(key, other)

    def reason(self, reason: str) -> str:
        """Translate a recorded reason, which is English or a plugin's own text."""
        return plain(reason if self.language == "en" else self.tell(_ONLY_A_REASON, {"reason": reason, "path": ""}))

    def state(self, state: str) -> str:
        return self._words.get(f"state.{state}", state)

    def error(self, error: KernelError) -> str:
        """Return the text of an error without its id."""
        return plain(self.tell(error.id, error.fields))
