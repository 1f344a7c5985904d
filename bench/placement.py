"""Placement of processes on cores, because identical code takes five times as long between two cores as on one.

``same``: all on one core. ``diff``: the workers on another core than the kernel's process. ``free``: wherever the
system puts them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

Placement = Literal["same", "diff", "free"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """Cores of a contender, and whether only its answers are checked."""

    placement: Placement
    kernel_cores: frozenset[int]
    worker_cores: frozenset[int]
    smoke: bool = False

    def count(self, often: int) -> int:
        """Return the number of repetitions: ``often``, or a few if only the answers are checked."""
        return min(often, 3) if self.smoke else often

    def of_kernel(self) -> Workspace:
        """Return the workspace of a process that does the work of the kernel."""
        return replace(self, worker_cores=self.kernel_cores)

    def place_process(self, pid: int) -> None:
        """Move all threads of a process. Later threads and children inherit the placement of their creator."""
        for thread in os.listdir(f"/proc/{pid}/task"):
            self.place_thread(int(thread))

    def place_thread(self, native_id: int) -> None:
        with suppress(ProcessLookupError):  # the thread has just ended
            os.sched_setaffinity(native_id, self.worker_cores)


@contextmanager
def on_stage(placement: Placement, *, smoke: bool = False) -> Iterator[Workspace]:
    """Move this process, and all that it starts in the context, to the core of the kernel."""
    cores = os.sched_getaffinity(0)
    kernel_cores, worker_cores = split(placement, cores)
    os.sched_setaffinity(0, kernel_cores)
    try:
        yield Workspace(placement, frozenset(kernel_cores), frozenset(worker_cores), smoke)
    finally:
        os.sched_setaffinity(0, cores)


def split(placement: Placement, cores: set[int]) -> tuple[set[int], set[int]]:
    """Return the cores of the kernel's process, and those of the workers."""
    first, *others = sorted(cores)
    if placement == "free":
        return cores, cores
    if placement == "same":
        return {first}, {first}
    return {first}, {others[0]}


def possible(placement: Placement) -> bool:
    return placement != "diff" or len(os.sched_getaffinity(0)) > 1
