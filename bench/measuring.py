"""Measure a row in one placement: set up and warm all contenders, then measure them in turns, round by round."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

from bench.placement import Placement, Workspace, on_stage
from bench.ratios import Result
from bench.rows import FLOOR, OURS, Contender, Measure, Row

# Seconds for one contender to be set up, to be measured once, or to be taken down.
PATIENCE = 120


def measure(row: Row, placement: Placement, rounds: int) -> Result:
    """Return the samples of all contenders. A peer that fails or hangs is skipped; if ours or the floor does, raise."""
    with on_stage(placement) as stage, ExitStack() as opened:
        run = _Run(opened, stage, row.warm_ups)
        for name, contender in row.contenders.items():
            run.attempt(name, partial(run.open, name, contender))
        with _no_collection():
            for number in range(rounds):
                run.round(backwards=number % 2 == 1)
        return Result(row, placement, run.samples, run.skipped)


def check(row: Row) -> None:
    """Run ours and the floor once, in the first placement of the row, to check the answers."""
    for contender in (row.ours, row.floor):
        with on_stage(row.placements[0], smoke=True) as stage, contender.open(stage) as work:
            work()


class _Run:
    """State of a run: the samples so far, and the contenders that have not failed."""

    def __init__(self, opened: ExitStack, stage: Workspace, warm_ups: int) -> None:
        self._opened = opened
        self._stage = stage
        self._warm_ups = warm_ups
        self._measures: dict[str, Measure] = {}
        self.samples: dict[str, list[float]] = {}
        self.skipped: dict[str, str] = {}

    def attempt(self, name: str, work: Callable[[], object]) -> None:
        try:
            with _patience():
                work()
        except Exception as error:
            if name in (OURS, FLOOR):
                raise
            self.skipped[name] = str(error) if isinstance(error, _NotHere) else f"{type(error).__name__}: {error}"
            self._measures.pop(name, None)
            self.samples.pop(name, None)

    def open(self, name: str, contender: Contender) -> None:
        """Set up and warm a contender. If that fails, it is taken down immediately."""
        if missing := [module for module in contender.needs if not _installed(module)]:
            raise _NotHere(f"{', '.join(missing)} is not installed")
        with ExitStack() as attempt:
            work = attempt.enter_context(contender.open(self._stage))
            for _ in range(self._warm_ups):
                work()
            self._opened.callback(self._close, name, attempt.pop_all())
        self._measures[name], self.samples[name] = work, []

    def _close(self, name: str, opened: ExitStack) -> None:
        """Take a contender down. An error of a peer is ignored, because its samples are complete."""
        with suppress(*(() if name in (OURS, FLOOR) else (Exception,))), _patience():
            opened.close()

    def round(self, *, backwards: bool) -> None:
        """Measure each contender once. Every other round is backwards, so that predecessors vary."""
        gc.collect()
        names = [*self._measures]
        for name in reversed(names) if backwards else names:
            self.attempt(name, partial(self._sample, name))

    def _sample(self, name: str) -> None:
        self.samples[name].append(self._measures[name]())


class _NotHere(Exception):
    """A library is not installed."""


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


@contextmanager
def _patience() -> Iterator[None]:
    """Raise TimeoutError in this thread after PATIENCE seconds, even if it waits for another. Not reentrant."""

    def give_up(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"not done after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Turn the collector off, so that garbage of one contender is not collected in the time of another."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
