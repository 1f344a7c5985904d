"""Measure a row in a separate process, which has the environment of its column and no leftovers of earlier rows.

The measuring process is ``python -m bench.isolated``: it reads its job from the arguments and writes the samples to a
file, because peers may print.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import bench
from bench import bus, suite
from bench.columns import Column, environment, in_use
from bench.measuring import measure
from bench.placement import Placement
from bench.ratios import Result
from bench.rows import Row

# A loop in plain Python. How long a floor takes in such loops shows in which condition the machine is.
YARDSTICK = bus.LIST_LOOP

_ROOT = Path(bench.__file__).parent.parent


class MeasurementFailed(RuntimeError):
    """The measuring process reported a wrong answer or another error, or was killed."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row in one placement and column; for the guard, with the yardstick instead of peers."""

    row: Row
    placement: Placement
    column: Column
    guard: bool = False

    @property
    def compared(self) -> Row:
        return self.row.beside(YARDSTICK) if self.guard else self.row.compared_in(self.column)

    def __str__(self) -> str:
        return f"{self.row.id} {self.placement} {self.column}"


def run(job: Job, rounds: int = 0) -> Result:
    """Measure ``rounds`` rounds; 0 is the number of the row. Raises MeasurementFailed."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        row = job.row
        what = (row.id, row.name, job.placement, job.column, rounds or row.rounds, int(job.guard), answer)
        command = [sys.executable, "-m", "bench.isolated", *map(str, what)]
        with subprocess.Popen(command, cwd=_ROOT, env=environment(job.column), stdout=sys.stderr) as process:
            code = process.wait()
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    if "samples" not in found:
        raise MeasurementFailed(found.get("error") or f"the measuring process ended with status {code}")
    return Result(job.compared, job.placement, found["samples"], found["skipped"], job.column)


def _main() -> None:
    id, name, placement, column, rounds, guard, answer = sys.argv[1:]
    row = next(row for row in suite.ROWS if (row.id, row.name) == (id, name))
    job = Job(row, cast(Placement, placement), cast(Column, column), bool(int(guard)))
    Path(answer).write_text(json.dumps(_measured(job, int(rounds))), encoding="utf-8")


def _measured(job: Job, rounds: int) -> dict[str, object]:
    if in_use() != job.column:
        return {"error": f"this process runs with the {in_use()} core"}
    try:
        result = measure(job.compared, job.placement, rounds)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"samples": result.samples, "skipped": result.skipped}


if __name__ == "__main__":
    _main()
