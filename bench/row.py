"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """``ours`` and ``floor`` are medians, of seconds or of bytes; ``ratio`` is the median ratio of the rounds,
    ``quartiles`` of them."""

    row: str
    name: str
    ours: float
    floor: float
    ratio: float
    target: float
    quartiles: tuple[float, ...]
    unit: Literal["s", "B"] = "s"

    @property
    def met(self) -> bool:
        return self.ratio <= self.target

    def told(self, value: float) -> str:
        return f"{value * 1e3:.3f} ms" if self.unit == "s" else f"{value / 2**20:.1f} MiB"
