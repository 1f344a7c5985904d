"""Durations with a unit."""

from __future__ import annotations

import pytest

from microkernel.sdk.durations import seconds_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("90s", 90.0), ("15m", 900.0), ("1.5h", 5400.0), ("2d", 172_800.0), (" 3 s ", 3.0), ("0s", 0.0)],
)
def test_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert seconds_in(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1 hour", "1e3s", "٣s", "1.s", ".5s", "9" * 10 + "s", "1s" * 50_000, "nan s", "1h30m"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is a number with a unit") as caught:
        seconds_in(text)
    assert len(str(caught.value)) < 200
