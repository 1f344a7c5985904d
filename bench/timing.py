"""Timed loops that contenders share, so that checking the answers costs all of them the same."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bench.rows import Measure, WrongAnswer

# Argument and result of a call.
PAYLOAD = bytes(range(100))

# A call of an echoing method.
Echo = Callable[[Any], object]


def check(answer: object, expected: object) -> None:
    if answer != expected:
        raise WrongAnswer(f"{answer!r:.80} instead of {expected!r:.80}")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def calls(echo: Echo, count: int, payload: object = PAYLOAD) -> Measure:
    """Measure ``count`` calls, one after the other, in seconds per call."""

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
    """Measure ``count`` calls by each caller, each in a separate thread, in seconds per call of all of them."""
    with ThreadPoolExecutor(len(callers)) as pool:

        def measure() -> float:
            began = time.perf_counter()
            for done in [pool.submit(_call, echo, count, payload) for echo in callers]:
                done.result()
            return (time.perf_counter() - began) / (count * len(callers))

        yield measure


def percentile(share: int, echo: Echo, count: int, payload: object = PAYLOAD) -> Measure:
    """Measure the seconds that ``share`` percent of ``count`` calls, one after the other, do not exceed."""

    def measure() -> float:
        took = [seconds(lambda: _call(echo, 1, payload)) for _ in range(count)]
        return statistics.quantiles(took, n=100, method="inclusive")[share - 1]

    return measure


def events(emit: Callable[[int], object], settle: Callable[[], int], count: int, sum_of: int | None = None) -> Measure:
    """Measure ``count`` numbered events, emitted as fast as possible, in seconds per event until the last is handled.

    ``settle`` waits for the last event and returns ``sum_of``, by default the sum of the numbers since the last one.
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
