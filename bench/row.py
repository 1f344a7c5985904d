"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """``ours`` and ``floor`` are median seconds; ``ratio`` is the median ratio of the rounds, ``quartiles`` of them."""

    row: str
    name: str
    ours: float
    floor: float
    ratio: float
    target: float
    quartiles: tuple[float, ...]

    @property
    def met(self) -> bool:
        return self.ratio <= self.target
