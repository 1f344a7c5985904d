"""``./run bench [ROW...]``: measure rows, and print ratios, each against a floor of the same run.

``./run bench scale`` and ``./run bench soak`` are separate measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench import guard, isolated, scale, soak, suite
from bench.columns import available
from bench.isolated import Job, MeasurementFailed
from bench.keeping import keep
from bench.measuring import check
from bench.placement import possible
from bench.ratios import Result
from bench.report import as_json
from bench.rows import Row

PLOT = Path(__file__).parent.parent / "docs" / "bench.png"

_OTHERS = {"scale": scale.main, "soak": soak.main}


def main() -> None:
    _allow_bytecode()
    if sys.argv[1:2] and (other := _OTHERS.get(sys.argv[1])):
        other(sys.argv[2:])
        return
    options = _options()
    try:
        rows = suite.chosen(options.rows)
    except KeyError as unknown:
        sys.exit(f"✗ there is no row {unknown}; the rows are {', '.join(dict.fromkeys(r.id for r in suite.ROWS))}")
    if options.smoke:
        _smoke(rows)
        return
    if options.guard:
        _guard(options.rows, write=options.write)
        return
    results, broken = _measured(rows, options.rounds)
    if options.save or not options.rows:
        _save(results)
    if options.json:
        print(json.dumps(as_json(results), indent=2, ensure_ascii=False))
    else:
        _show(results)
    if broken:
        sys.exit(1)


def _allow_bytecode() -> None:
    """Let processes that start from here load bytecode, as the modules of an installed package do."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench")
    parser.add_argument("rows", nargs="*", help="P1, P5 ...; without any, all are measured and saved; or: scale, soak")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each row, instead of the number it has")
    parser.add_argument("--json", action="store_true", help="print JSON, as in bench/results, instead of the table")
    parser.add_argument("--save", action="store_true", help="save the results also if rows are named")
    parser.add_argument("--smoke", action="store_true", help="check the answers only, without peers")
    parser.add_argument("--guard", action="store_true", help="fail if a ratio is worse than in bench/baseline.json")
    parser.add_argument("--write", action="store_true", help="with --guard: measure, and write that file")
    options = parser.parse_args()
    if options.write and not options.guard:
        parser.error("--write belongs to --guard")
    return options


def _smoke(rows: Sequence[Row]) -> None:
    for row in rows:
        check(row)
        print(f"✓ {row.id}  {row.name}: the answers are right")


def _guard(ids: Sequence[str], *, write: bool) -> None:
    try:
        good = guard.write(ids) if write else guard.guard(ids)
    except MeasurementFailed as error:
        sys.exit(f"✗ {error}")
    if not good:
        sys.exit(1)


def _measured(rows: Sequence[Row], rounds: int) -> tuple[list[Result], bool]:
    """Return the results, and whether a row is missing because the kernel or the floor failed (which is printed)."""
    results, broken = [], False
    for job in jobs(rows):
        print(f"· {job}  {job.row.name}", file=sys.stderr)
        try:
            results.append(isolated.run(job, rounds))
        except MeasurementFailed as error:
            broken = True
            print(f"✗ {job}  {error}", file=sys.stderr)
    return results, broken


def jobs(rows: Sequence[Row]) -> Iterator[Job]:
    """Return all measurements that are possible here. The columns of a row in one placement follow each other."""
    columns = available()
    for row in rows:
        for placement in filter(possible, row.placements):
            for column in columns:
                if column in row.columns:
                    yield Job(row, placement, column)


def _show(results: Sequence[Result]) -> None:
    from bench import table

    table.show(results, table.console())


def _save(results: Sequence[Result]) -> None:
    path, kept = keep(as_json(results))
    print(f"✓ {path}", file=sys.stderr)
    _draw(kept["rows"])


def _draw(rows: Sequence[Mapping[str, object]]) -> None:
    if find_spec("matplotlib") is None:
        print("· no picture: matplotlib is not installed", file=sys.stderr)
        return
    from bench import plot

    plot.draw(rows, PLOT)


if __name__ == "__main__":
    main()
