"""What a row of the table is, as data: one piece of work, done by us, by a floor, by peers, and what ours must reach.

The floor is the least that does the work at all: no name, no type, no deadline is checked there, and nothing is
supervised. A peer is a library that people use for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from bench.placement import Placement, Workspace

Unit = Literal["s", "B"]
# Does the work some times, checks every answer, and returns the seconds (or bytes) that one took.
Measure = Callable[[], float]

OURS = "ours"
FLOOR = "floor"


class WrongAnswer(AssertionError):
    """A contender is fast at something else."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work. ``open`` sets it up on a stage and takes it down again. ``needs`` are the modules without
    which it is skipped."""

    name: str
    open: Callable[[Workspace], AbstractContextManager[Measure]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Ours takes at most ``limit`` times as long as ``against``; if ``faster``, that takes at least ``limit`` times as
    long as ours; if ``against`` is nobody, ours takes at most ``limit`` seconds or bytes."""

    limit: float
    against: str
    faster: bool = False
    # Where it holds; everywhere if none is named.
    placements: tuple[Placement, ...] = ()

    def holds_in(self, placement: Placement) -> bool:
        return not self.placements or placement in self.placements


def at_most(limit: float, against: str = FLOOR, *placements: Placement) -> Target:
    return Target(limit, against, placements=placements)


def faster(limit: float, against: str, *placements: Placement) -> Target:
    return Target(limit, against, faster=True, placements=placements)


def within(limit: float) -> Target:
    """Seconds or bytes."""
    return Target(limit, "")


@dataclass(frozen=True, slots=True)
class Row:
    """``id`` is the row of the targets; one id may have several rows with different names."""

    id: str
    name: str
    ours: Contender
    floor: Contender
    peers: tuple[Contender, ...] = ()
    targets: tuple[Target, ...] = ()
    placements: tuple[Placement, ...] = ("same", "diff")
    rounds: int = 40
    warm_ups: int = 3
    unit: Unit = "s"

    @property
    def contenders(self) -> dict[str, Contender]:
        """By the name under which they are measured."""
        return {OURS: self.ours, FLOOR: self.floor, **{peer.name: peer for peer in self.peers}}
