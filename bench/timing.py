"""The timed loops that contenders share, so that all pay the same for being checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.rows import Measure, WrongAnswer

PAYLOAD = bytes(range(100))
"""What a call carries, and gets back."""


def check(answer: object, expected: object) -> None:
    if answer != expected:
        raise WrongAnswer(f"{answer!r:.80} instead of {expected!r:.80}")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def calls(echo: Callable[[Any], object], count: int, payload: object = PAYLOAD) -> Measure:
    """``count`` calls, one after the other, of what answers with what it was given: seconds per call."""

    def measure() -> float:
        began = time.perf_counter()
        for _ in range(count):
            if echo(payload) != payload:
                raise WrongAnswer("not what was sent")
        return (time.perf_counter() - began) / count

    return measure
