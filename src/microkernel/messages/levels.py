"""The six levels of messages, from a detail to a serious error."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import NamedTuple


class _Look(NamedTuple):
    logging: int
    mark: str
    ascii: str
    chinese: str


class MessageLevel(StrEnum):
    """Importance of a message. The value is its English name, as used in the catalogs and by ``api.say``."""

    EXPLAIN = "explain"
    DIRECT = "direct"
    SUCCESS = "success"
    NOTICE = "notice"
    WARN = "warn"
    ERROR = "error"

    @property
    def logging(self) -> int:
        """Return the corresponding level of the standard library's ``logging``."""
        return _LOOKS[self].logging

    @property
    def chinese(self) -> str:
        return _LOOKS[self].chinese

    def mark(self, ascii: bool = False) -> str:
        """Return the character shown before the line; ``ascii`` is for terminals that support nothing else."""
        return _LOOKS[self].ascii if ascii else _LOOKS[self].mark

    def word(self, language: str) -> str:
        return self.chinese if language == "zh" else self.value

    @classmethod
    def of(cls, levelno: int) -> MessageLevel:
        """Return the level at which a ``logging`` record is shown."""
        if levelno >= logging.ERROR:
            return cls.ERROR
        if levelno >= logging.WARNING:
            return cls.WARN
        return cls.DIRECT if levelno >= logging.INFO else cls.EXPLAIN


_LOOKS: dict[MessageLevel, _Look] = {
    MessageLevel.EXPLAIN: _Look(logging.DEBUG, "›", ">", "解释"),
    MessageLevel.DIRECT: _Look(logging.INFO, "·", "-", "说明"),
    MessageLevel.SUCCESS: _Look(logging.INFO, "✓", "+", "成功"),
    MessageLevel.NOTICE: _Look(logging.INFO, "•", "*", "注意"),
    MessageLevel.WARN: _Look(logging.WARNING, "!", "!", "警告"),
    MessageLevel.ERROR: _Look(logging.ERROR, "✗", "x", "错误"),
}
