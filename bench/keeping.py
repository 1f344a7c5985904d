"""Files of results: one for each day, and one for each other Python of that day."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bench import suite
from bench.report import machine

RESULTS = Path(__file__).with_name("results")


def keep(found: Mapping[str, Any], folder: Path = RESULTS) -> tuple[Path, dict[str, Any]]:
    """Add the results to today's file of this machine and Python; return the file and its new content.

    Earlier results of the day stay, except of rows that were measured again.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"{date.today().isoformat()}.json"
    older = _read(path)
    if older.get("machine", machine()) != machine():
        path = path.with_stem(f"{path.stem}-python{'.'.join(platform.python_version_tuple()[:2])}")
        older = _read(path)
    if older.get("machine") != machine():
        older = {}
    rows = merged(older.get("rows", []), found.get("rows", []))
    kept = {"machine": machine(), **older, **found, "rows": rows}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path, kept


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def merged(older: Sequence[dict[str, object]], newer: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return the rows of both in the order of the suite. A newer row replaces the older one of the same measurement."""
    order = [row.id for row in suite.ROWS]
    rows = {(row["row"], row["name"], row["placement"], row["column"]): row for row in [*older, *newer]}
    return sorted(rows.values(), key=lambda row: order.index(str(row["row"])))
