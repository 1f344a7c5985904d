"""Conversion of texts typed on a command line by type hints."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest

from microkernel.sdk.binding.command_arguments import CommandText, fit_to_hint
from microkernel.wire import codec


class Mode(enum.Enum):
    FAST = "1"
    SLOW = "2"


class Size(enum.IntEnum):
    SMALL = 1


@dataclass
class Line:
    item: str
    price: Decimal
    tags: tuple[str, ...] = ()
    note: str | None = None
    more: Any = None


Code = NewType("Code", str)
DIGITS = "12345678901234.56789012345678901234"


@pytest.mark.parametrize(
    ("word", "hint", "value"),
    [
        ("1.10", str, "1.10"), ("007", str, "007"), ("true", str, "true"), ("null", str, "null"), ("", str, ""),
        ("{}", str, "{}"), ('"5"', str, "5"), ("5", Annotated[str, "a mark"], "5"), ("5", Code, "5"),
        ("5", int, 5), ("-5", int, -5), ("5", float, 5.0), ("1e3", float, 1000.0), ("5", int | None, 5),
        ("null", int | None, None), ("null", str | None, None), ("5", str | None, "5"), ("5", int | str, 5),
        ("x", int | str, "x"), ("1.5", int | str, "1.5"), ("true", bool, True), ("True", bool, True),
        ("False", bool, False), ("true", bool | str, True), (DIGITS, Decimal, Decimal(DIGITS)),
        ("9" * 34, Decimal, Decimal("9" * 34)), ("1.10", Decimal | None, Decimal("1.10")),
        ("1", Mode, Mode.FAST), ("1", Size, Size.SMALL), ("1", Literal["1"], "1"), ("1", Literal[1], 1),
        ("2026-07-30", date, date(2026, 7, 30)), ("PT5S", timedelta, timedelta(seconds=5)),
        ("2026-07-30T12:00:00", datetime, datetime(2026, 7, 30, 12)),
        (str(UUID(int=7)), UUID, UUID(int=7)), ("né", bytes, "né".encode()),
        ("[1, 2]", list[int], [1, 2]), ("[1, 2.50]", list[str], ["1", "2.50"]), ("[1, 2]", tuple[int, str], (1, "2")),
        ("[1]", set[str], {"1"}), ('{"1": 2}', dict[int, str], {1: "2"}), ('{"a": [1.10]}', dict[str, list[Decimal]],
        {"a": [Decimal("1.10")]}), ('{"a": 1.5}', dict[str, Any], {"a": 1.5}), ("[1.5]", list, [1.5]),
        (f'{{"item": 5, "price": {DIGITS}, "tags": [1], "note": 2, "more": 1.50}}', Line,
         Line("5", Decimal(DIGITS), ("1",), "2", 1.5)),
        ('[{"item": 1, "price": 2}]', list[Line], [Line("1", Decimal(2))]),
    ],
)  # fmt: skip
def test_a_text_is_converted_to_the_hint(word: str, hint: Any, value: Any) -> None:
    got = codec.convert(fit_to_hint(CommandText(word), hint), hint)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("word", "value"), [("5", 5), ("1.10", 1.1), ("x", "x"), ('"5"', "5"), ("[1.5]", [1.5]), ("NaN x", "NaN x")]
)
def test_without_a_hint_a_text_is_parsed_as_json(word: str, value: Any) -> None:
    assert fit_to_hint(CommandText(word), Any) == value


@pytest.mark.parametrize(
    ("word", "hint", "value"), [("x", int, "x"), ("1.5", int, 1.5), ("[1]", int, [1]), ("9" * 5000, int, "9" * 5000)]
)
def test_a_text_that_does_not_fit_is_passed_on_unconverted(word: str, hint: Any, value: Any) -> None:
    assert fit_to_hint(CommandText(word), hint) == value


def test_other_values_are_not_converted() -> None:
    assert fit_to_hint("5", int) == "5"
