"""Ratios, their spread and the verdict on each target, computed from the samples of a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.columns import Column
from bench.placement import Placement
from bench.rows import FLOOR, OURS, Row, Target

# Seconds (or bytes) by contender, one of each round. Samples with the same index belong together.
Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and the measured value.

    ``value`` is the median ratio or, for an absolute target, the median in seconds or bytes. ``spread`` has its
    quartiles. ``value``, ``spread`` and ``met`` are None if the peer was not measured.
    """

    target: Target
    value: float | None = None
    spread: tuple[float, float] | None = None
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A row, measured in one placement and column. ``skipped`` maps each peer that was not measured to the reason."""

    row: Row
    placement: Placement
    samples: Samples
    skipped: Mapping[str, str]
    column: Column = "pure"

    def median(self, contender: str) -> float:
        return statistics.median(self.samples[contender])

    @property
    def ratio(self) -> float:
        """Ratio of the kernel to the floor."""
        return statistics.median(ratios(self.samples[OURS], self.samples[FLOOR]))

    @property
    def spread(self) -> tuple[float, float]:
        return quartiles(ratios(self.samples[OURS], self.samples[FLOOR]))

    @property
    def verdicts(self) -> list[Verdict]:
        return [judge(target, self.samples) for target in self._targets]

    @property
    def _targets(self) -> list[Target]:
        return [target for target in self.row.targets if target.holds_in(self.placement, self.column)]

    @property
    def met(self) -> bool:
        """True if no target is missed. A target whose peer was not measured is not missed."""
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
    """Return the ratio of each round. A disturbance affects both contenders of a round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, method="inclusive")
    return first, third
