"""Decide whether a plugin that died is restarted, and when. Pure: history and time are given."""

from __future__ import annotations

from microkernel.kernel.manifest import Supervision
from microkernel.wire.light_dataclasses import dataclass

# Doublings of the delay: more than any useful number, and within the range of a float.
_MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """``delay``: seconds until the restart, None for no restart. ``count``: exits within the period, with this."""

    delay: float | None
    count: int
    history: tuple[float, ...]
    budget_exhausted: bool


def decide(
    policy: Supervision,
    history: tuple[float, ...],
    now: float,
    *,
    abnormal: bool,
    jitter: float,
    uncharged: bool = False,
) -> RestartDecision:
    """Decide whether a plugin is restarted after an exit at ``now``, and when.

    ``history`` holds the times of earlier exits on a clock that stands still in backoff; ``jitter`` is a number from 0
    to 1. ``permanent`` plugins are always restarted, ``transient`` ones after an ``abnormal`` exit, ``temporary`` ones
    never. More than ``intensity`` exits in ``period`` seconds exhaust the budget; after ``period`` seconds without one
    it is whole again. An ``uncharged`` exit does not count.
    """
    if uncharged:
        return RestartDecision(policy.backoff, len(history), history, budget_exhausted=False)
    recent = (*(t for t in history if now - t < policy.period), now)
    wanted = policy.restart == "permanent" or (policy.restart == "transient" and abnormal)
    if not wanted:
        return RestartDecision(None, len(recent), recent, budget_exhausted=False)
    if len(recent) > policy.intensity:
        return RestartDecision(None, len(recent), recent, budget_exhausted=True)
    delay = min(policy.backoff * 2.0 ** min(len(recent) - 1, _MOST_DOUBLINGS), policy.backoff_max)
    return RestartDecision(delay * (0.75 + 0.5 * jitter), len(recent), recent, budget_exhausted=False)
