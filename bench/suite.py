"""All rows, in the order of the table."""

from __future__ import annotations

from collections.abc import Collection

from bench import bus, large, process_call, sandbox, wasm
from bench.rows import Row


def _number(row: Row) -> tuple[str, int]:
    return row.id[0], int(row.id[1:])


ROWS = tuple(sorted((*bus.ROWS, *large.ROWS, *process_call.ROWS, *sandbox.ROWS, *wasm.ROWS), key=_number))


def chosen(ids: Collection[str]) -> list[Row]:
    """All if none is named. Raises KeyError for what is none."""
    for id in ids:
        if id not in {row.id for row in ROWS}:
            raise KeyError(id)
    return [row for row in ROWS if not ids or row.id in ids]
