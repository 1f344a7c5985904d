"""Whether a plugin that died comes back, and when. Pure: the history and the time are given."""

from __future__ import annotations

from dataclasses import dataclass

from microkernel.kernel.manifest import Supervision

_MOST_DOUBLINGS = 60
"""Of the delay: beyond any useful one, and within what a float can hold."""


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """``delay``: seconds until the restart, None for no restart. ``count``: deaths within the period, this one too."""

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
    """What follows a death at ``now``.

    ``history`` holds the times of earlier deaths on a clock that stands still in backoff; ``jitter`` is a number from 0
    to 1. ``permanent`` always comes back, ``transient`` after an ``abnormal`` end, ``temporary`` never. More than
    ``intensity`` deaths in ``period`` seconds spend the budget; who stays alive for ``period`` begins anew. A
    ``uncharged`` death is charged to nobody.
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
