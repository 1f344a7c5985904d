"""Where results are kept: one file a day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bench import suite

RESULTS = Path(__file__).with_name("results")


def keep(found: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Returns the file of today and what is in it now: what was measured today and not measured again stays."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{date.today().isoformat()}.json"
    older = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = {**older, **found, "rows": merged(older.get("rows", []), found.get("rows", []))}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path, kept


def merged(older: Sequence[dict[str, object]], newer: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """In the order of the suite; what both have is the newer one's."""
    order = [row.id for row in suite.ROWS]
    rows = {(row["row"], row["name"], row["placement"]): row for row in [*older, *newer]}
    return sorted(rows.values(), key=lambda row: order.index(str(row["row"])))
