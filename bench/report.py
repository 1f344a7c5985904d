"""Results as text for people, and as JSON for programs that compare runs."""

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
    """Return the results as JSON: medians in seconds or bytes (``unit``); ``ratio`` is that of ours to the floor."""
    return {"machine": machine(), "rows": [_row(result) for result in results]}


def machine() -> str:
    """Describe the machine: its system, cores and Python, and nothing that identifies it."""
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{system}, {len(os.sched_getaffinity(0))} cores, {python}"


def _row(result: Result) -> dict[str, Any]:
    row = result.row
    return {
        "row": row.id,
        "name": row.name,
        "placement": result.placement,
        "column": result.column,
        "unit": row.unit,
        "rounds": len(result.samples[OURS]),
        "ours": result.median(OURS),
        "floor": result.median(FLOOR),
        "floor_is": row.floor.name,
        "peers": {peer.name: result.median(peer.name) for peer in row.peers if peer.name in result.samples},
        "skipped": dict(result.skipped),
        "ratio": result.ratio,
        "spread": result.spread,
        "target": "; ".join(target_text(verdict.target, row.unit) for verdict in result.verdicts),
        "targets": [_verdict(verdict, row.unit) for verdict in result.verdicts],
        "met": result.met,
        "why": why_missed(result),
    }


def why_missed(result: Result) -> str:
    """Return the most specific reason in ``why.toml``, by placement, name or id; empty if no target is missed.

    The native column has separate reasons, because time goes elsewhere.
    """
    why: Mapping[str, str] = tomllib.loads(_WHY.read_text(encoding="utf-8")) if not result.met else {}
    row = result.row
    suffix = " native" if result.column == "native" else ""
    reasons = (why.get(f"{key}{suffix}") for key in (f"{row.id} {result.placement}", row.name, row.id))
    return next(filter(None, reasons), "")


def _verdict(verdict: Verdict, unit: Unit) -> dict[str, Any]:
    return {
        "target": target_text(verdict.target, unit),
        "against": verdict.target.against,
        "limit": verdict.target.limit,
        "value": verdict.value,
        "spread": verdict.spread,
        "met": verdict.met,
    }


def target_text(target: Target, unit: Unit = "s") -> str:
    if not target.against:
        return f"≤ {value_text(target.limit, unit)}"
    if not target.faster:
        return f"≤ {target.limit:g}x {target.against}"
    if target.limit == 1.0:
        return f"faster than {target.against}"
    return f"≥ {target.limit:g}x as fast as {target.against}"


def verdict_text(verdict: Verdict, unit: Unit = "s") -> str:
    """Return the target and the measured value in one line."""
    target = target_text(verdict.target, unit)
    if verdict.value is None or verdict.spread is None:
        return f"· {target}: not measured"
    low, high = verdict.spread
    found = (
        f"{verdict.value:.3g} ({low:.3g} to {high:.3g})" if verdict.target.against else value_text(verdict.value, unit)
    )
    return f"{'✓' if verdict.met else '✗'} {target}: {found}"


def value_text(value: float, unit: Unit = "s") -> str:
    """Return the value with three digits, in the unit that suits its size."""
    steps = [(2**20, "MiB"), (2**10, "KiB")] if unit == "B" else [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]
    for size, name in steps:
        if value >= size:
            return f"{_three_digits(value / size)} {name}"
    return f"{value:.0f} B" if unit == "B" else f"{_three_digits(value * 1e9)} ns"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
