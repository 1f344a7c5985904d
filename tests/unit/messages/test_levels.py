"""Six levels, each with a mark that needs no colour."""

from __future__ import annotations

import logging

import pytest

from microkernel.messages import MessageLevel
from microkernel.messages.terminal_width import width


def test_the_six() -> None:
    assert {level.value: level.chinese for level in MessageLevel} == {
        "explain": "解释",
        "direct": "说明",
        "success": "成功",
        "notice": "注意",
        "warn": "警告",
        "error": "错误",
    }


def test_marks() -> None:
    assert [level.mark() for level in MessageLevel] == ["›", "·", "✓", "•", "!", "✗"]
    plain = [level.mark(ascii=True) for level in MessageLevel]
    assert "".join(plain).isascii()
    assert len(set(plain)) == 6
    assert all(width(level.mark()) == 1 for level in MessageLevel)


def test_words() -> None:
    assert MessageLevel.WARN.word("en") == "warn"
    assert MessageLevel.WARN.word("zh") == "警告"


def test_logging_levels_never_fall() -> None:
    numbers = [level.logging for level in MessageLevel]
    assert numbers == sorted(numbers)
    assert all(logging.getLevelName(number).isalpha() for number in numbers)


@pytest.mark.parametrize(
    ("levelno", "level"),
    [(10, "explain"), (20, "direct"), (25, "direct"), (30, "warn"), (40, "error"), (50, "error"), (0, "explain")],
)
def test_a_log_records_level(levelno: int, level: str) -> None:
    assert MessageLevel.of(levelno) is MessageLevel(level)
