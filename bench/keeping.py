"""Where results are kept: one file a day, and one for each other Python of that day."""

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
    """Returns the file and what is in it now: what was measured today, by this machine and Python, and not measured
    again, stays."""
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
    """In the order of the suite; what both have is the newer one's."""
    order = [row.id for row in suite.ROWS]
    rows = {(row["row"], row["name"], row["placement"]): row for row in [*older, *newer]}
    return sorted(rows.values(), key=lambda row: order.index(str(row["row"])))
