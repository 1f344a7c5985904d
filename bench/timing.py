"""The timed loops that contenders share, so that all pay the same for being checked."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bench.rows import Measure, WrongAnswer

# What a call carries, and gets back.
PAYLOAD = bytes(range(100))

# A call of what answers with what it was given.
Echo = Callable[[Any], object]


def check(answer: object, expected: object) -> None:
    if answer != expected:
        raise WrongAnswer(f"{answer!r:.80} instead of {expected!r:.80}")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def calls(echo: Echo, count: int, payload: object = PAYLOAD) -> Measure:
    """``count`` calls, one after the other: seconds per call."""

    def measure() -> float:
        began = time.perf_counter()
        _call(echo, count, payload)
        return (time.perf_counter() - began) / count

    return measure


def _call(echo: Echo, count: int, payload: object) -> None:
    for _ in range(count):
        if echo(payload) != payload:
            raise WrongAnswer("not what was sent")


@contextmanager
def calls_at_once(callers: Sequence[Echo], count: int, payload: object = PAYLOAD) -> Iterator[Measure]:
    """``count`` calls by each of the callers, which have a thread each: seconds per call of all of them."""
    with ThreadPoolExecutor(len(callers)) as pool:

        def measure() -> float:
            began = time.perf_counter()
            for done in [pool.submit(_call, echo, count, payload) for echo in callers]:
                done.result()
            return (time.perf_counter() - began) / (count * len(callers))

        yield measure


def percentile(share: int, echo: Echo, count: int, payload: object = PAYLOAD) -> Measure:
    """Of ``count`` calls, one after the other: the seconds that ``share`` of a hundred do not exceed."""

    def measure() -> float:
        took = [seconds(lambda: _call(echo, 1, payload)) for _ in range(count)]
        return statistics.quantiles(took, n=100, method="inclusive")[share - 1]

    return measure


def events(emit: Callable[[int], object], settle: Callable[[], int], count: int, sum_of: int | None = None) -> Measure:
    """``count`` events with a number each, as fast as they go: seconds per event, until the last is handled.

    ``settle`` waits for that and tells the sum of all numbers that came since it was last asked, if ``sum_of`` says
    nothing else.
    """
    numbers = range(1, count + 1)
    expected = sum(numbers) if sum_of is None else sum_of

    def measure() -> float:
        began = time.perf_counter()
        for number in numbers:
            emit(number)
        total = settle()
        took = time.perf_counter() - began
        check(total, expected)
        return took / count

    return measure
