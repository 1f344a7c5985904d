"""`mk wasm prepare`: build the wasm guest ahead.

Exit codes: 0 it is built, now or before; 1 it cannot be built here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from microkernel.cli.output import Output
from microkernel.hosts.wasm.image import DAMAGED, STEPS, Image
from microkernel.hosts.wasm.image import Progress as Tell
from microkernel.plugins.console import view


def prepare(output: Output, image: Image | None = None) -> None:
    """Build the guest if needed and print its path. Raises IsolationUnavailable."""
    image = image or Image()
    steps: list[str] = []
    began = time.monotonic()
    with _shown(output) as tell:

        def note(step: str) -> None:
            steps.append(step)
            tell(step)

        path = image.ensure(note)
    is_new = STEPS[-1] in steps
    took = time.monotonic() - began if is_new else 0.0
    size = path.stat().st_size
    word = output.translator.word
    done = word("wasm.built", seconds=f"{took:.0f}") if is_new else word("wasm.there")
    where = word("wasm.where", path=path, size=view.size(size))
    data = {"path": str(path), "bytes": size, "built": is_new, "seconds": round(took, 1)}
    output.show([view.line("success", "wasm", done), Text(f"  {where}"), Text(f"  {word('wasm.offline')}")], data)


@contextmanager
def _shown(output: Output) -> Iterator[Tell]:
    """Return how to show the steps: a bar on a terminal, lines elsewhere, both on standard error."""
    if sys.stderr.isatty() and not output.as_json:
        with _bar(output) as tell:
            yield tell
    else:
        yield partial(_tell, output)


def _tell(output: Output, step: str) -> None:
    level = "warn" if step == DAMAGED else "direct"
    output.notice(f"{_number(step)}{output.translator.word(f'wasm.{step}')}", level)


def _number(step: str) -> str:
    return f"{STEPS.index(step) + 1}/{len(STEPS)}  " if step in STEPS else ""


@contextmanager
def _bar(output: Output) -> Iterator[Tell]:
    """Show a progress bar from the first step on."""
    text = TextColumn("{task.description}")
    columns = (SpinnerColumn(), text, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=len(STEPS))

    def tell(step: str) -> None:
        if step == DAMAGED:
            _tell(output, step)
            return
        if not bar.live.is_started:
            output.notice(output.translator.word("wasm.building"))
            bar.start()
        bar.update(task, description=output.translator.word(f"wasm.{step}"))
        if step in STEPS:
            bar.update(task, completed=STEPS.index(step))

    try:
        yield tell
    finally:
        bar.stop()
