"""All rows, in the order of the table."""

from __future__ import annotations

from collections.abc import Collection

from bench import (
    beginning,
    bus,
    busy_call,
    concurrent_calls,
    killing,
    large,
    process_call,
    process_events,
    relay,
    reloading,
    sandbox,
    starting,
    thread_call,
    thread_events,
    wasm,
)
from bench.rows import Row

_WORKS = (
    bus,
    thread_events,
    thread_call,
    process_call,
    concurrent_calls,
    process_events,
    busy_call,
    relay,
    starting,
    reloading,
    killing,
    large,
    sandbox,
    beginning,
    wasm,
)


def _number(row: Row) -> tuple[str, int]:
    return row.id[0], int(row.id[1:])


ROWS = tuple(sorted((row for work in _WORKS for row in work.ROWS), key=_number))


def chosen(ids: Collection[str]) -> list[Row]:
    """Return the rows with these ids, or all if none is given. Raises KeyError for an unknown id."""
    for id in ids:
        if id not in {row.id for row in ROWS}:
            raise KeyError(id)
    return [row for row in ROWS if not ids or row.id in ids]
