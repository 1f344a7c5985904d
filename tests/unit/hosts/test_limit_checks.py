"""The checks of a confined worker's limits take turns, step by step, and none loses what another has found."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from microkernel.hosts.confined import runner as confined


class Runner(confined.ConfinedRunner):
    """The part of a runner that its checks use."""

    def __init__(self) -> None:
        self._pid, self._closed = 1, False
        self._limits = {"threads": 1.0, "memory": 1.0}
        self._overhead = 0
        self._kill_reason = ""
        self._free_before, self._folders, self._allowed_growth = [], [], 0
        self.reasons: list[str] = []

    def kill(self) -> None:
        self.reasons.append(self._kill_reason)

    def _over_disk(self, pid: int) -> Generator[None, None, str]:
        yield
        return "too many bytes of files"


def _locks(found: str) -> Any:
    def over_locks(_pid: int) -> Generator[None, None, str]:
        yield
        yield
        return found

    return over_locks


@pytest.mark.parametrize("found", ["", "too many locks"])
def test_a_reason_that_the_other_check_has_found_stays(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("threads_over", "memory_over"):
        monkeypatch.setattr(confined, name, lambda *_: "")
    monkeypatch.setattr(confined, "_over_locks", _locks(found))
    runner = Runner()
    memory, files = runner._check_memory(), runner._check_files()
    next(memory)
    next(memory)  # it counts locks
    assert list(files) == [None]
    assert list(memory) == [None]
    assert runner.reasons == ["too many bytes of files"] * 2


def test_a_reason_stays_while_files_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("threads_over", "memory_over"):
        monkeypatch.setattr(confined, name, lambda *_: "")
    monkeypatch.setattr(confined, "_over_locks", _locks("too many locks"))
    runner = Runner()
    memory, files = runner._check_memory(), runner._check_files()
    next(files)  # it measures
    assert len(list(memory)) == 3
    assert list(files) == []
    assert runner.reasons == ["too many locks"] * 2
