"""The reader's language: words that were given, and texts of messages that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from microkernel.errors import KernelError, valid_text

Tell = Callable[[str, Mapping[str, Any]], str]

_ONLY_A_REASON = "MK0605"
"""A message whose text is its reason."""
_BLANK = {ord("\t"): "    ", ord("\n"): " ", ord("\r"): " "}


def plain(text: str) -> str:
    """One line that cannot drive a terminal: what a plugin wrote is shown, never obeyed."""
    if text.isprintable():
        return text
    text = valid_text(text)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text.translate(_BLANK))


def terminal_safe(text: str) -> str:
    """The same of several lines. Everything that ``mk`` and the console print passes through it (``view.render``)."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))


class Translator:
    """``words`` are the command line's own by key; ``tell`` gives the text of a message by its id and fields."""

    def __init__(self, language: str, words: Mapping[str, str], tell: Tell) -> None:
        self.language = language
        self.tell = tell
        self._words = words

    def word(self, key: str, /, **fields: object) -> str:
        """An unknown key is shown as it is."""
        text = self._words.get(key, key)
        return text.format_map({name: plain(str(value)) for name, value in fields.items()}) if fields else text

    def word_or(self, key: str, other: str) -> str:
        """What is not known is shown in other words."""
        return self._words.get(key, other)

    def reason(self, reason: str) -> str:
        """Why something was, as it is kept: in English, or in a plugin's own words."""
        return plain(reason if self.language == "en" else self.tell(_ONLY_A_REASON, {"reason": reason, "path": ""}))

    def state(self, state: str) -> str:
        return self._words.get(f"state.{state}", state)

    def error(self, error: KernelError) -> str:
        """The text, without the id."""
        return plain(self.tell(error.id, error.fields))
