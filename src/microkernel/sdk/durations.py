"""Durations as people write them: ``90s``, ``15m``, ``1.5h``."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)", re.ASCII)


def seconds_in(text: str) -> float:
    """Return the seconds in a number with one of the units ms, s, m, h and d. Raises ValueError for anything else."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"a duration is a number with a unit (ms, s, m, h or d), such as 15m; got {text[:40]!r}")
    return float(found[1]) * _SECONDS[found[2]]
