"""What a run found, as text for people and as JSON for whatever compares runs."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ratios import Result, Verdict
from bench.rows import FLOOR, OURS, Target, Unit

_WHY = Path(__file__).with_name("why.toml")


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Seconds or bytes by ``unit``, medians of the rounds; ``ratio`` is ours to the floor, of each round."""
    return {"machine": machine(), "rows": [_row(result) for result in results]}


def machine() -> str:
    """What kind it is, not whose."""
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{system}, {len(os.sched_getaffinity(0))} cores, {python}"


def _row(result: Result) -> dict[str, Any]:
    row = result.row
    return {
        "row": row.id,
        "name": row.name,
        "placement": result.placement,
        "unit": row.unit,
        "rounds": len(result.samples[OURS]),
        "ours": result.median(OURS),
        "floor": result.median(FLOOR),
        "floor_is": row.floor.name,
        "peers": {peer.name: result.median(peer.name) for peer in row.peers if peer.name in result.samples},
        "skipped": dict(result.skipped),
        "ratio": result.ratio,
        "spread": result.spread,
        "target": "; ".join(told_target(verdict.target, row.unit) for verdict in result.verdicts),
        "targets": [_verdict(verdict, row.unit) for verdict in result.verdicts],
        "met": result.met,
        "why": why_missed(result),
    }


def why_missed(result: Result) -> str:
    """The most exact that is known: of this placement, of this work, of the row. Empty if nothing is missed."""
    why: Mapping[str, str] = tomllib.loads(_WHY.read_text(encoding="utf-8")) if not result.met else {}
    row = result.row
    said = (why.get(key) for key in (f"{row.id} {result.placement}", row.name, row.id))
    return next(filter(None, said), "")


def _verdict(verdict: Verdict, unit: Unit) -> dict[str, Any]:
    return {
        "target": told_target(verdict.target, unit),
        "against": verdict.target.against,
        "limit": verdict.target.limit,
        "value": verdict.value,
        "spread": verdict.spread,
        "met": verdict.met,
    }


def told_target(target: Target, unit: Unit = "s") -> str:
    if not target.against:
        return f"≤ {told(target.limit, unit)}"
    if not target.faster:
        return f"≤ {target.limit:g}x {target.against}"
    than = f"faster than {target.against}"
    return than if target.limit == 1.0 else f"≥ {target.limit:g}x {than}"


def told_verdict(verdict: Verdict, unit: Unit = "s") -> str:
    """The target, and what was found."""
    target = told_target(verdict.target, unit)
    if verdict.value is None or verdict.spread is None:
        return f"· {target}: not measured"
    low, high = verdict.spread
    found = f"{verdict.value:.3g} ({low:.3g} to {high:.3g})" if verdict.target.against else told(verdict.value, unit)
    return f"{'✓' if verdict.met else '✗'} {target}: {found}"


def told(value: float, unit: Unit = "s") -> str:
    """Three digits, in the unit that a person would use."""
    steps = [(2**20, "MiB"), (2**10, "KiB")] if unit == "B" else [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]
    for size, name in steps:
        if value >= size:
            return f"{_three_digits(value / size)} {name}"
    return f"{value:.0f} B" if unit == "B" else f"{_three_digits(value * 1e9)} ns"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
