"""The table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.ratios import Result
from bench.report import told, told_verdict, why_missed
from bench.rows import FLOOR, OURS

# Columns, where there is no terminal.
_WIDTH = 150


def console() -> Console:
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_WIDTH)


def show(results: Sequence[Result], console: Console) -> None:
    table = Table(show_lines=True, title="medians; a ratio is the median of the rounds', with its quartiles")
    for name in ("row", "work", "ours", "floor", "peers", "targets"):
        table.add_column(name, no_wrap=name == "row")
    for result in results:
        table.add_row(*_cells(result))
    console.print(table)


def _cells(result: Result) -> list[str]:
    row = result.row
    peers = sorted((result.median(peer.name), peer.name) for peer in row.peers if peer.name in result.samples)
    return [
        f"{row.id}\n{result.placement}",
        row.name,
        told(result.median(OURS), row.unit),
        f"{told(result.median(FLOOR), row.unit)}\n{row.floor.name}",
        "\n".join(
            [
                *(f"{name} {told(value, row.unit)}" for value, name in peers),
                *(f"{name} skipped: {reason}" for name, reason in result.skipped.items()),
            ]
        ),
        "\n".join([*(told_verdict(verdict, row.unit) for verdict in result.verdicts), why_missed(result)]).strip(),
    ]
