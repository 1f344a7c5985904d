"""One row in one placement: all contenders are set up, warmed, and then measured in turns, round by round."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from bench.placement import Placement, Stage, on_stage
from bench.ratios import Result
from bench.rows import FLOOR, OURS, Contender, Measure, Row


def measure(row: Row, placement: Placement, rounds: int) -> Result:
    """A peer that cannot be set up is skipped; ours and the floor must be right, or this raises."""
    with on_stage(placement) as stage, ExitStack() as opened:
        measures: dict[str, Measure] = {}
        skipped: dict[str, str] = {}
        for name, contender in row.contenders.items():
            if missing := [module for module in contender.needs if not _installed(module)]:
                skipped[name] = f"{', '.join(missing)} is not installed"
                continue
            try:
                measures[name] = _opened(opened, contender, stage, row.warm_ups)
            except Exception as error:
                if name in (OURS, FLOOR):
                    raise
                skipped[name] = f"{type(error).__name__}: {error}"
        return Result(row, placement, _rounds(measures, rounds), skipped)


def check(row: Row) -> None:
    """Ours and the floor, once, in the row's first placement: only the answers matter."""
    for contender in (row.ours, row.floor):
        with on_stage(row.placements[0], smoke=True) as stage, contender.open(stage) as work:
            work()


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _opened(opened: ExitStack, contender: Contender, stage: Stage, warm_ups: int) -> Measure:
    """Set up and warm; taken down at once if it fails there."""
    with ExitStack() as attempt:
        work = attempt.enter_context(contender.open(stage))
        for _ in range(warm_ups):
            work()
        opened.push(attempt.pop_all())
    return work


def _rounds(measures: dict[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Every other round runs backwards, so that nobody always comes after the same one."""
    samples: dict[str, list[float]] = {name: [] for name in measures}
    with _no_collection():
        for number in range(rounds):
            gc.collect()
            for name in [*measures] if number % 2 == 0 else reversed(measures):
                samples[name].append(measures[name]())
    return samples


@contextmanager
def _no_collection() -> Iterator[None]:
    """The garbage of one contender is not collected in the time of another."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
