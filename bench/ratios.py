"""From the samples of a run to what the table says. Pure: no clock, no process."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.placement import Placement
from bench.rows import FLOOR, OURS, Row, Target

# Seconds (or bytes) by contender, one of each round; the first of each belong together, and so on.
Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``value`` is the median ratio, or ours in seconds or bytes where nobody is compared; with ``spread``, its
    quartiles. None, all three, where the peer was not there."""

    target: Target
    value: float | None = None
    spread: tuple[float, float] | None = None
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A row, measured in one placement. ``skipped`` maps each peer that was not measured to why."""

    row: Row
    placement: Placement
    samples: Samples
    skipped: Mapping[str, str]

    def median(self, contender: str) -> float:
        return statistics.median(self.samples[contender])

    @property
    def ratio(self) -> float:
        """Of ours to the floor."""
        return statistics.median(ratios(self.samples[OURS], self.samples[FLOOR]))

    @property
    def spread(self) -> tuple[float, float]:
        return quartiles(ratios(self.samples[OURS], self.samples[FLOOR]))

    @property
    def verdicts(self) -> list[Verdict]:
        return [judge(target, self.samples) for target in self.row.targets if target.holds_in(self.placement)]

    @property
    def met(self) -> bool:
        """Every target whose peer was there."""
        return all(verdict.met is not False for verdict in self.verdicts)


def judge(target: Target, samples: Samples) -> Verdict:
    ours = samples[OURS]
    if not target.against:
        values = list(ours)
    elif target.against not in samples:
        return Verdict(target)
    elif target.faster:
        values = ratios(samples[target.against], ours)
    else:
        values = ratios(ours, samples[target.against])
    value = statistics.median(values)
    return Verdict(target, value, quartiles(values), value >= target.limit if target.faster else value <= target.limit)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round: what disturbs a round disturbs both."""
    return [one / other for one, other in zip(above, below, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, method="inclusive")
    return first, third
