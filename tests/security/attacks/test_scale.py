"""Three hundred plugins, and sixty lives of one: nothing piles up."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.harness.leftovers import descendants, descriptors, gone
from tests.security.attacks.support import Plugins, eventually

MANY = 300
CYCLES = 60


def flat() -> tuple[int, int, int]:
    """Descriptors, threads and modules."""
    gc.collect()
    return len(descriptors()), threading.active_count(), len(sys.modules)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_three_hundred_process_plugins(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with plugins.kernel() as kernel:  # what is made once in a process is made now
        kernel.load(plugins.healthy("first"))
    plugins.path("first").unlink()
    for number in range(MANY):
        plugins.healthy(f"p{number}")
    before = descriptors()
    threads = threading.active_count()
    others = {*descendants(os.getpid())}
    began = time.monotonic()
    with plugins.kernel() as kernel:
        started = time.monotonic()
        infos = kernel.list()
        assert [info.state for info in infos] == ["active"] * MANY
        assert [kernel.call(f"{info.name}.answer", number=i, timeout=30) for i, info in enumerate(infos)] == [
            i + 1 for i in range(MANY)
        ]
        called = time.monotonic()
        memory = sum(kernel.info(info.name).memory or 0 for info in infos) / MANY / (1 << 20)
        everybody = {*descendants(os.getpid())} - others
        assert len(everybody) == MANY + 3  # the zygote, the worker that it has ahead, what parses plugins
        stopping = time.monotonic()
    ended = time.monotonic()
    assert not [pid for pid in everybody if not gone(pid)]
    eventually(lambda: threading.active_count() <= threads, "all threads end")
    gc.collect()
    assert set(descriptors()) - set(before) == set(), {k: v for k, v in descriptors().items() if k not in before}
    assert not list(scratch.rglob("*"))
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    print(
        f"\n{MANY} process plugins: start {started - began:.2f} s, a call to each {called - started:.3f} s, "
        f"stop {ended - stopping:.2f} s; {memory:.1f} MB of its own each"
    )


@pytest.mark.parametrize("level", ["thread", "process"])
@pytest.mark.timeout(120)
def test_repeated_restarts_and_reloads_leak_nothing(plugins: Plugins, level: str) -> None:
    plugins.healthy()
    plugins.healthy("neighbour")
    with plugins.kernel(level) as kernel:

        def live(times: int) -> None:
            for turn in range(times):
                assert kernel.call("healthy.answer", timeout=30) == 42
                kernel.emit("attack.life", turn=turn)
                if turn % 3:
                    kernel.reload("healthy")
                else:
                    (kernel.kill if turn % 2 else kernel.stop)("healthy")
                    kernel.start("healthy")

        live(10)
        eventually(lambda: kernel.call("neighbour.answer") == 42)
        before = flat()
        began = time.monotonic()
        live(CYCLES)
        took = time.monotonic() - began
        eventually(lambda: all(now <= then for now, then in zip(flat(), before, strict=True)), f"{flat()} as {before}")
        assert not kernel.core.calls.pending
        assert len(kernel.core.reactor._ready) < 30
        print(f"\n{CYCLES} lives at {level}: {took:.2f} s; descriptors, threads, modules {flat()}")
