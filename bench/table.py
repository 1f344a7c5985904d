"""The table on a terminal: one line for each row and placement, with the columns pure and native side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from bench.columns import BOTH, Column
from bench.ratios import Result
from bench.report import value_text, verdict_text, why_missed
from bench.rows import FLOOR, OURS

# Width of the output if it is not a terminal.
_WIDTH = 150


def console() -> Console:
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_WIDTH)


def show(results: Sequence[Result], console: Console) -> None:
    columns = [column for column in BOTH if any(result.column == column for result in results)]
    table = Table(show_lines=True, title="medians; a ratio is the median of those of the rounds, with its quartiles")
    for name in ("row", "work", "floor", "peers", *columns):
        table.add_column(name, no_wrap=name == "row")
    for line in lines(results):
        table.add_row(*_cells(line, columns))
    console.print(table)


def lines(results: Iterable[Result]) -> list[dict[Column, Result]]:
    """Group the results by row and placement, in the order in which they come first."""
    grouped: dict[tuple[str, str, str], dict[Column, Result]] = {}
    for result in results:
        grouped.setdefault((result.row.id, result.row.name, result.placement), {})[result.column] = result
    return list(grouped.values())


def _cells(line: dict[Column, Result], columns: Sequence[Column]) -> list[str]:
    first = next(iter(line.values()))
    row = first.row
    return [
        f"{row.id}\n{first.placement}",
        row.name,
        f"{value_text(first.median(FLOOR), row.unit)}\n{row.floor.name}",
        "\n".join(_peers(first)),
        *("\n".join(_ours(line[column])) if column in line else "" for column in columns),
    ]


def _peers(result: Result) -> list[str]:
    row = result.row
    peers = sorted((result.median(peer.name), peer.name) for peer in row.peers if peer.name in result.samples)
    return [
        *(f"{name} {value_text(value, row.unit)}" for value, name in peers),
        *(f"{name} skipped: {reason}" for name, reason in result.skipped.items()),
    ]


def _ours(result: Result) -> list[str]:
    """Return the kernel's time and its ratio to the floor of the same run, the targets, and the reason for a miss."""
    unit = result.row.unit
    verdicts = [verdict_text(verdict, unit) for verdict in result.verdicts]
    head = f"{value_text(result.median(OURS), unit)}, {result.ratio:.3g}x floor"
    return [head, *verdicts, *filter(None, [why_missed(result)])]
