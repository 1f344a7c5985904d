"""``mk bench``: a table of the costs of plugins at each level of this machine. No other library is compared.

Exit codes: 0 measured; 1 an answer was wrong, or an available level does not start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from microkernel.app import Kernel
from microkernel.cli.bench_probe import WORKS, ProbeResult, WrongAnswer, measure
from microkernel.cli.output import Output
from microkernel.errors import KernelError
from microkernel.hosts.wasm.image import Image
from microkernel.kernel.manifest import LEVELS, Level
from microkernel.plugins.console import view

Results = dict[Level, dict[str, ProbeResult]]


def bench(output: Output) -> int:
    """Measure and print. Returns the exit code."""
    word = output.translator.word
    results: Results = {}
    left_out: dict[Level, str] = {}
    failed = False
    for level, reason in _levels(output).items():
        if reason:
            left_out[level] = reason
            continue
        output.notice(word("bench.measures", level=level), "direct")
        try:
            results[level] = measure(level)
        except (KernelError, WrongAnswer) as error:
            failed = True
            left_out[level] = output.translator.error(error) if isinstance(error, KernelError) else str(error)
    output.show(_shown(results, left_out, output), _data(results, left_out))
    return 1 if failed else 0


def _levels(output: Output) -> dict[Level, str]:
    """Return why each level is not measured; empty if it is. A missing wasm guest is not built for this."""
    with Kernel(name="bench") as kernel:
        available = kernel.available()
    reasons: dict[Level, str] = {}
    for level in LEVELS:
        error = available[level].error
        reasons[level] = f"{error.id} {output.translator.error(error)}" if error else ""
    if not reasons["wasm"] and not Image().is_built():
        reasons["wasm"] = output.translator.word("bench.not_built")
    return reasons


def _shown(results: Results, left_out: Mapping[Level, str], output: Output) -> list[Any]:
    word = output.translator.word
    heads = [view.Column(word("bench.level")), *(view.Column(word(f"bench.{work}"), right=True) for work in WORKS)]
    rows = [[level, *(f"{_time(found[work].seconds)} {found[work].ratio:5.2f}x" for work in WORKS)]
            for level, found in results.items()]  # fmt: skip
    if results:
        rows.append([word("bench.floor"), *(f"{_time(_floor(results, work))}  1.00x" for work in WORKS)])
    lines = [view.line("notice", level, reason) for level, reason in left_out.items()]
    return [view.Columns(heads, rows), *lines, view.line("direct", word("bench.note"))]


def _floor(results: Results, work: str) -> float:
    """Return the median time of the empty process over the runs of all levels."""
    return median(found[work].floor for found in results.values())


def _data(results: Results, left_out: Mapping[Level, str]) -> dict[str, Any]:
    """Return the results for ``--json``, in seconds."""
    levels = {level: {work: asdict(found[work]) for work in WORKS} for level, found in results.items()}
    return {"levels": levels, "left_out": dict(left_out)}


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"
