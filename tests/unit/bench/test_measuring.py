"""How a row is run: in turns, and without what is not there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import measuring
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row


def contender(name: str, log: list[str], needs: tuple[str, ...] = ()) -> Contender:
    @contextmanager
    def opened(stage: Workspace) -> Iterator[Measure]:
        def measure() -> float:
            log.append(name)
            return 1.0

        yield measure
        log.append(f"-{name}")

    return Contender(name, opened, needs)


@contextmanager
def broken(stage: Workspace) -> Iterator[Measure]:
    raise OSError("no such thing")
    yield


def row(log: list[str], *peers: Contender) -> Row:
    return Row("P1", "a row", contender("ours", log), contender("floor", log), peers, warm_ups=1)


def test_contenders_take_turns_and_every_other_round_is_backwards() -> None:
    log: list[str] = []
    measuring.measure(row(log, contender("peer", log)), "free", rounds=2)
    assert log[3:9] == ["ours", "floor", "peer", "peer", "floor", "ours"]


def test_all_are_warmed_first_and_taken_down_last() -> None:
    log: list[str] = []
    measuring.measure(row(log), "free", rounds=1)
    assert (log[:2], log[-2:]) == (["ours", "floor"], ["-floor", "-ours"])


def test_a_peer_that_is_not_there_is_skipped_by_name() -> None:
    log: list[str] = []
    absent, fails = contender("absent", log, ("no_such_module",)), Contender("fails", broken)
    result = measuring.measure(row(log, absent, fails), "free", rounds=1)
    assert result.skipped == {"absent": "no_such_module is not installed", "fails": "OSError: no such thing"}
    assert set(result.samples) == {"ours", "floor"}


@contextmanager
def breaks_in_its_third(stage: Workspace) -> Iterator[Measure]:
    times = iter([1.0, 1.0])
    yield lambda: next(times)


@contextmanager
def hangs(stage: Workspace) -> Iterator[Measure]:
    def measure() -> float:
        threading.Event().wait()
        return 1.0

    yield measure


@contextmanager
def breaks_at_its_end(stage: Workspace) -> Iterator[Measure]:
    yield lambda: 1.0
    raise OSError("it does not end")


def test_a_peer_that_breaks_while_it_is_measured_is_skipped() -> None:
    log: list[str] = []
    result = measuring.measure(row(log, Contender("breaks", breaks_in_its_third)), "free", rounds=4)
    assert (set(result.skipped), len(result.samples["ours"])) == ({"breaks"}, 4)
    assert set(result.samples) == {"ours", "floor"}


def test_a_peer_that_hangs_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PATIENCE", 1)
    result = measuring.measure(row([], Contender("hangs", hangs)), "free", rounds=1)
    assert result.skipped == {"hangs": "TimeoutError: not done after 1 s"}


def test_a_peer_that_does_not_end_has_been_measured() -> None:
    result = measuring.measure(row([], Contender("peer", breaks_at_its_end)), "free", rounds=2)
    assert result.samples["peer"] == [1.0, 1.0]


def test_the_floor_is_not_skipped() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="no such thing"):
        measuring.measure(Row("P1", "a row", contender("ours", log), Contender("floor", broken)), "free", rounds=1)


def test_the_cores_of_this_process_are_its_own_again() -> None:
    before = os.sched_getaffinity(0)
    measuring.measure(row([]), "same", rounds=1)
    assert os.sched_getaffinity(0) == before
