"""Reading ``/proc`` without releasing the interpreter's lock, and how often a list of all plugins does so."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.hosts.confined.protections import protections_of
from microkernel.hosts.procfs import reads
from microkernel.hosts.procfs.processes import statistics_of
from microkernel.hosts.procfs.reads import read_file, read_link
from microkernel.hosts.worker import runner
from microkernel.kernel.config import KernelConfig
from microkernel.testing.harness import plugin
from microkernel.wire.messages import ConfinementReport
from tests.harness.leftovers import descriptors, opened_since


@pytest.mark.parametrize("may_wait", [False, True])
def test_a_file_is_read_as_open_reads_it(may_wait: bool) -> None:
    assert read_file(os.getpid(), "limits", may_wait=may_wait) == Path("/proc/self/limits").read_bytes()
    assert read_link(os.getpid(), "ns/net") == os.fsencode(os.readlink("/proc/self/ns/net"))
    assert read_link("self", "ns/net") == read_link(os.getpid(), "ns/net")


@pytest.mark.parametrize("may_wait", [False, True])
def test_a_missing_file_is_named_in_the_error(may_wait: bool) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_file(os.getpid(), "nothing", may_wait=may_wait)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, f"/proc/{os.getpid()}/nothing")
    with pytest.raises(FileNotFoundError):
        read_link(os.getpid(), "ns/nothing")


def test_reading_leaves_no_descriptor_open() -> None:
    before = descriptors()
    for _ in range(64):
        read_file(os.getpid(), "stat")
        read_file(os.getpid(), "stat", may_wait=True)
        with pytest.raises(OSError, match="Is a directory"):
            read_file(os.getpid(), "task")
    assert opened_since(before) == {}


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record each call that releases the interpreter's lock, which takes long to get back if another thread
    computes."""
    seen: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return function(*args, **kwargs)

        return call

    for name in ("open", "read", "readlink", "stat", "lstat", "scandir", "listdir"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    monkeypatch.setattr("builtins.open", counted("builtins.open", open))
    for name in ("open", "read"):
        call = counted(f"releasing {name}", getattr(reads._releasing_lock, name))
        monkeypatch.setattr(reads._releasing_lock, name, call)
    return seen


def test_measuring_a_process_releases_the_interpreters_lock_for_its_memory_alone(releases: list[str]) -> None:
    assert statistics_of(os.getpid(), ())["memory"] > 0
    assert releases == ["releasing open", "releasing read"]
    releases.clear()
    assert protections_of(os.getpid(), ConfinementReport())["net namespace"] == "unavailable"
    assert releases == []


def test_a_list_measures_a_process_plugin_at_most_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: now[0]))
    (tmp_path / "p.py").write_text(plugin(""))
    config = KernelConfig(data_dir=str(tmp_path / "data"))
    with Kernel(tmp_path / "p.py", config, isolation="process") as kernel:
        measured: list[int] = []
        measure = runner.statistics_of

        def count(pid: int, limited: frozenset[str]) -> Any:
            measured.append(pid)
            return measure(pid, limited)

        monkeypatch.setattr(runner, "statistics_of", count)
        for _ in range(10):
            assert kernel.list()[0].memory
        assert len(measured) == 1
        assert kernel.info("p").memory
        assert len(measured) == 2
        now[0] += 1.0
        assert kernel.list()[0].memory
        assert len(measured) == 3
        kernel.kill("p")
        assert kernel.list()[0].memory is None


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_a_measurement_before_a_worker_has_its_limits_is_not_reused(tmp_path: Path, level: Any) -> None:
    (tmp_path / "p.py").write_text(plugin(""))
    config = KernelConfig(data_dir=str(tmp_path / "data"), limits={"files": 64})
    with Kernel(tmp_path / "p.py", config, isolation=level) as kernel:
        instance = kernel.core.registry.get("p").instance
        assert instance is not None
        runner: Any = instance.runner
        runner._is_set_up, kept = lambda: False, runner._is_set_up
        before = runner._measured
        assert runner.statistics()["protections"]["files"] == "enforced"
        assert runner._measured == before
        runner._is_set_up = kept
        assert kept()
        assert runner.statistics()
        assert runner._measured != before
