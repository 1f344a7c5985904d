"""Rows of the table, as data: one piece of work, done by the kernel, a floor and peers, and the targets of the kernel.

The floor is the least code that does the work at all. It checks no name, no type and no deadline, and supervises
nothing. A peer is a library that people use for the work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

from bench.columns import BOTH, Column
from bench.placement import Placement, Workspace

Unit = Literal["s", "B"]
# Does the work some times, checks every answer, and returns the seconds (or bytes) of one.
Measure = Callable[[], float]

OURS = "ours"
FLOOR = "floor"


class WrongAnswer(AssertionError):
    """A contender does not do the work."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work.

    ``open`` sets it up in a workspace and takes it down again. ``needs`` names the modules without which it is skipped.
    """

    name: str
    open: Callable[[Workspace], AbstractContextManager[Measure]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """An upper bound on the kernel's cost, relative to ``against``, which takes 1.

    With ``faster``, a lower bound on the cost of ``against`` relative to the kernel's. With an empty ``against``,
    ``limit`` is an absolute bound in seconds or bytes. The target holds in these ``columns`` and ``placements``;
    without placements, in all of the row.
    """

    limit: float
    against: str
    faster: bool = False
    placements: tuple[Placement, ...] = ()
    columns: tuple[Column, ...] = BOTH

    def holds_in(self, placement: Placement, column: Column) -> bool:
        return column in self.columns and (not self.placements or placement in self.placements)


def at_most(limit: float, against: str = FLOOR, *placements: Placement) -> Target:
    return Target(limit, against, placements=placements)


def faster(limit: float, against: str, *placements: Placement) -> Target:
    return Target(limit, against, faster=True, placements=placements)


def within(limit: float) -> Target:
    """Return an absolute target, in seconds or bytes."""
    return Target(limit, "")


def pure(*targets: Target) -> tuple[Target, ...]:
    """Return the same targets, for the column without the native core."""
    return tuple(replace(target, columns=("pure",)) for target in targets)


def native(*targets: Target) -> tuple[Target, ...]:
    """Return the same targets, for the column with the native core."""
    return tuple(replace(target, columns=("native",)) for target in targets)


@dataclass(frozen=True, slots=True)
class Row:
    """``id`` is the number of the row in the list of targets; rows with the same id have different names."""

    id: str
    name: str
    ours: Contender
    floor: Contender
    peers: tuple[Contender, ...] = ()
    targets: tuple[Target, ...] = ()
    placements: tuple[Placement, ...] = ("same", "diff")
    columns: tuple[Column, ...] = BOTH
    rounds: int = 40
    warm_ups: int = 3
    unit: Unit = "s"

    @property
    def contenders(self) -> dict[str, Contender]:
        """Contenders by the names under which they are measured."""
        return {OURS: self.ours, FLOOR: self.floor, **{peer.name: peer for peer in self.peers}}

    def compared_in(self, column: Column) -> Row:
        """Return the row with the peers that this column is compared with.

        The pure column has all of them. The native column has only those that its targets name, because the others
        would be measured twice.
        """
        if column == "pure":
            return self
        named = {target.against for target in self.targets if column in target.columns}
        return replace(self, peers=tuple(peer for peer in self.peers if peer.name in named))

    def beside(self, contender: Contender) -> Row:
        """Return the row with this contender instead of its peers, and without targets."""
        return replace(self, peers=(contender,), targets=())
