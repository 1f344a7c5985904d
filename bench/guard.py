"""``./run bench --guard``: fail if the ratio of a row to its floor is more than 15 % worse than in ``baseline.json``.

Few rounds come first. A row that seems worse is measured again with more rounds, up to three times in all. It is worse
only if each reading says so and was taken in the condition of the baseline. That is the case if no other program uses
the processor after the reading, and the floor takes as many loops of plain Python as it did. If the neighbouring core
is busy, even for another virtual machine, Python takes half as long again and a wake-up less than before, and a call
costs twice as much relative to its floor.

The rows are those that are quick to measure and stable on a quiet machine: on one core, or in one process. Between two
cores the ratio of a call depends on how deeply the second core sleeps.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from bench import isolated, suite
from bench.columns import BOTH, Column, available
from bench.isolated import Job
from bench.placement import Placement
from bench.ratios import ratios
from bench.rows import FLOOR

BASELINE = Path(__file__).with_name("baseline.json")

# Rows that take part, with the placement in which they do.
ROWS: Mapping[str, Placement] = {
    "P1": "same", "P2": "same", "P3": "free", "P4": "same", "P5": "same", "P7": "same", "P9": "same", "P15": "free",
}  # fmt: skip
# A ratio may be this many times the one before. A floor may differ by this factor in loops of plain Python.
TOLERANCE = 1.15
# Rounds of the readings of one row.
ROUNDS = (8, 16, 32)
# Seconds after which no reading starts. A row that is not confirmed by then is not judged.
BUDGET = 30.0

# Seconds of a look at the machine's load, and the share of one core that other programs may use meanwhile.
_LOOK = 0.25
_QUIET = 0.2

Outcome = Literal["kept", "worse", "not judged"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A ratio to the floor, and whether it was taken in the condition of the baseline."""

    ratio: float
    comparable: bool


class Kept(TypedDict):
    """A row in the baseline: its ratio to the floor, and the floor in loops of plain Python."""

    ratio: float
    floor: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A row with its ratio in the baseline (None if it has none) and its readings."""

    name: str
    before: float | None
    readings: Sequence[Reading]

    @property
    def now(self) -> float:
        return min(reading.ratio for reading in self.readings)

    @property
    def outcome(self) -> Outcome:
        return "kept" if self.before is None else decide(self.before, self.readings)


def decide(before: float, readings: Sequence[Reading]) -> Outcome:
    """Return "worse" only if all readings were taken, each is comparable, and each exceeds the tolerance."""
    if any(reading.ratio <= before * TOLERANCE for reading in readings):
        return "kept"
    confirmed = len(readings) == len(ROUNDS) and all(reading.comparable for reading in readings)
    return "worse" if confirmed else "not judged"


def investigate(
    names: Collection[str],
    before: Mapping[str, float],
    read: Callable[[str, int], Reading],
    may_continue: Callable[[], bool],
) -> list[Finding]:
    """Take a reading of each row, and then more of those that seem worse, the worst first.

    ``read`` takes a name and a number of rounds. Reading stops when ``may_continue`` returns False.
    """
    first, *others = ROUNDS
    readings = {name: [read(name, first)] for name in names if may_continue()}

    def factor(name: str) -> float:
        return readings[name][0].ratio / before.get(name, float("inf"))

    for name in sorted(readings, key=factor, reverse=True):
        if factor(name) <= TOLERANCE:
            break
        for rounds in others:
            last = readings[name][-1]
            if not last.comparable or last.ratio <= before[name] * TOLERANCE or not may_continue():
                break
            readings[name].append(read(name, rounds))
    return [Finding(name, before.get(name), found) for name, found in readings.items()]


def describe(finding: Finding) -> str:
    """Return one line for the terminal."""
    now, before = finding.now, finding.before
    if before is None:
        return f"· {finding.name}: {now:.3g}x floor; not in the baseline"
    change = f"{now:.3g}x floor, before {before:.3g}"
    if finding.outcome == "worse":
        return f"✗ {finding.name}: {change}: {now / before - 1:.0%} worse"
    if finding.outcome == "not judged":
        comparable = all(reading.comparable for reading in finding.readings)
        reason = "out of time" if comparable else "the machine is busy, or is another"
        return f"· {finding.name}: {change}; not judged: {reason}"
    better = "; better: ./run bench --guard --write keeps it" if now * TOLERANCE < before else ""
    return f"✓ {finding.name}: {change}{better}"


def guard(ids: Collection[str]) -> bool:
    """Measure and print; return whether no row is worse. Raises MeasurementFailed."""
    jobs = _jobs(ids, available())
    deadline = time.monotonic() + BUDGET
    kept = _load().get(_python(), {})
    before = {name: each["ratio"] for name, each in kept.items()}

    def read(name: str, rounds: int) -> Reading:
        found = _measured(jobs[name], rounds)
        seems_worse = found["ratio"] > before.get(name, found["ratio"]) * TOLERANCE
        return Reading(found["ratio"], not seems_worse or (_alike(found["floor"], kept[name]["floor"]) and is_quiet()))

    findings = investigate(jobs, before, read, lambda: time.monotonic() < deadline)
    for finding in findings:
        print(describe(finding))
    for name in jobs.keys() - {finding.name for finding in findings}:
        print(f"· {name}: not judged: out of time")
    return all(finding.outcome != "worse" for finding in findings)


def _alike(floor: float, before: float) -> bool:
    return before / TOLERANCE <= floor <= before * TOLERANCE


def _measured(job: Job, rounds: int) -> Kept:
    result = isolated.run(job, rounds)
    floor = statistics.median(ratios(result.samples[FLOOR], result.samples[isolated.YARDSTICK.name]))
    return {"ratio": round(result.ratio, 3), "floor": float(f"{floor:.4g}")}


def write(ids: Collection[str]) -> bool:
    """Measure the rows and keep their ratios in the baseline, for this Python; return False if the machine is busy."""
    kept = _load()
    found = {}
    for name, job in _jobs(ids, available()).items():
        found[name] = _measured(job, ROUNDS[-1])
        print(f"· {name}: {found[name]['ratio']}x floor")
        if not is_quiet():
            print("✗ not written: other programs use the processor")
            return False
    known = _jobs((), BOTH)
    rows = {**kept.get(_python(), {}), **found}
    kept[_python()] = {name: rows[name] for name in known if name in rows}
    BASELINE.write_text(json.dumps(kept, indent=2, sort_keys=False) + "\n", encoding="utf-8")
    print(f"✓ {BASELINE}")
    return True


def is_quiet() -> bool:
    """Return whether other programs use next to nothing of the processor, looking for a quarter of a second."""
    began = time.monotonic()
    before = _busy_seconds()
    time.sleep(_LOOK)
    return _busy_seconds() - before <= _QUIET * (time.monotonic() - began)


def _busy_seconds() -> float:
    """Return the seconds that all cores have worked since the system started, or that the hypervisor took from them."""
    with open("/proc/stat", encoding="ascii") as lines:
        user, nice, system, _idle, _io, irq, softirq, steal = map(int, lines.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / 100


def _jobs(ids: Collection[str], columns: Iterable[Column]) -> dict[str, Job]:
    chosen = [row for row in suite.chosen(ids) if row.id in ROWS]
    jobs = (Job(row, ROWS[row.id], column, guard=True) for row in chosen for column in columns)
    return {f"{job}  {job.row.name}": job for job in jobs}


def _load() -> dict[str, dict[str, Kept]]:
    """Return the baseline by Python and row, because other versions of Python have other ratios."""
    found: dict[str, dict[str, Kept]] = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    return found


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])
