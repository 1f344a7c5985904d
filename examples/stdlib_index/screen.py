"""Output of the demo: a terminal with a progress bar, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from microkernel.messages import MessageLevel

STYLES = {"success": "green", "notice": "cyan", "warn": "yellow", "error": "bold red", "explain": "dim"}


class Screen:
    """Prints lines, from any thread. Without a terminal, progress is one line per quarter."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._quarter = 0

    def line(self, level: str, who: str, text: str) -> None:
        mark = MessageLevel(level).mark(self._ascii)
        self._print(Text.assemble((f"{mark} {who:<13}", STYLES.get(level, "")), text))

    def plain(self, text: str = "", style: str = "") -> None:
        self._print(Text(text, style))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(*head, box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for column in table.columns[1:3]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def begin(self, text: str, total: int) -> None:
        """Show progress from here on."""
        self._quarter = 0
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(text, total=total)
            self._bar.start()

    def progress(self, done: int, total: int, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif done * 4 // max(total, 1) > self._quarter:
            self._quarter = done * 4 // total
            self.line("explain", "", text)

    def end(self) -> None:
        """Stop showing progress. Idempotent."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
