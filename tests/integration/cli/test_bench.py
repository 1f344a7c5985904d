"""`mk bench` runs everywhere and checks what it measures. No time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microkernel.cli import bench, bench_probe
from microkernel.cli.bench_probe import WORKS, WrongAnswer, bare_process, measure, plugin_at
from microkernel.cli.output import Output
from tests.integration.cli.conftest import Home


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("_LEAST", 2), ("_ROUNDS", 2), ("_CALLS", 3), ("_EVENTS", 10)):
        monkeypatch.setattr(bench_probe, name, count)


@pytest.mark.parametrize("level", ["thread", "process"])
def test_each_work_is_measured_beside_its_floor(level: Any) -> None:
    found = measure(level)
    assert list(found) == list(WORKS)
    assert all(min(each.seconds, each.floor, each.ratio) > 0 for each in found.values())


def test_a_lost_event_fails_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    with plugin_at("thread") as plugin:
        monkeypatch.setattr(plugin._kernel, "emit", lambda topic, **data: None)
        with pytest.raises(WrongAnswer):
            plugin.emit()


def test_the_floor_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with bare_process() as floor:
        assert min(floor.start(), floor.call(), floor.emit(), floor.call()) > 0


def test_a_wrong_answer_is_reported_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(level: str) -> None:
        raise WrongAnswer("7 instead of 8")

    monkeypatch.setattr(bench, "measure", wrong)
    assert bench.bench(Output("en")) == 1
    assert "7 instead of 8" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_shows_each_level_in_both_languages(home: Home) -> None:
    rows = {line.split()[0] for line in home.mk("bench").stdout.splitlines()}
    assert {"level", "thread", "process"} <= rows
    assert "空进程" in home.mk("bench", LANG="zh_CN.UTF-8").stdout


@pytest.mark.slow
def test_a_missing_guest_is_skipped(home: Home, tmp_path: Path) -> None:
    found = home.json("bench", XDG_CACHE_HOME=str(tmp_path / "empty"))
    assert set(found["levels"]["process"]) == set(WORKS)
    assert "wasm" in found["left_out"]
