"""Repeated reloads of a clean plugin keep memory, descriptors, threads and modules flat.

``MK_RELOADS=1000`` is the long form, with the figures printed by ``-s``.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from tests.harness.leftovers import descriptors
from tests.security.attacks.support import Plugins, eventually

RELOADS = int(os.environ.get("MK_RELOADS", "30"))
# Bytes. If every instance were kept, a hundred of them would take twenty times as much.
SMALL = 8_000_000
# Reloads before the first count: logs, tables and the allocator's arenas fill first.
WARM = 60
CLEAN = """
import logging, tempfile
from dataclasses import dataclass
from typing import Optional
import msgspec
log = logging.getLogger(__name__)
@dataclass
class Config:
    port: int = 25
class Order(msgspec.Struct):
    lines: list[int] = []
    first: Optional[Config] = None
class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
        self.ballast = bytearray(2_000_000)
        api.watch_data("clean.*", self.changed)
    def start(self):
        self.api.set_data("clean.key", 1)
        self.api.spawn(self.work)
        self.file = tempfile.NamedTemporaryFile()
        log.info("up")
    def stop(self): self.file.close()
    def work(self):
        while self.api.is_active: self.api.sleep(3600)
    def changed(self, key: str, value: int): pass
    @every(0.001)
    def beat(self): pass
    @on("order")
    def note(self, order: Optional[Order] = None): pass
    @expose
    def give(self, n: int = 0) -> Order: return Order([n])
"""
ASYNC = CLEAN.replace("def note", "async def note")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state() -> dict[str, int]:
    gc.collect()
    return {"descriptors": len(descriptors()), "threads": threading.active_count(), "modules": len(sys.modules)}


def no_more(now: dict[str, int], before: dict[str, int]) -> bool:
    """Compare counts. Fewer is not a leak: when ``before`` is counted, the last generation's worker may still be
    exiting."""
    return all(now[name] <= before[name] for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("source", [CLEAN, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("level", ["thread", "process"])
@pytest.mark.timeout(60 + RELOADS // 2)
def test_reloads_of_a_clean_plugin_leave_everything_flat(plugins: Plugins, level: str, source: str) -> None:
    plugins.add("clean", source, concurrency=2 if source is CLEAN else 1)
    with plugins.kernel(level) as kernel:

        def live(times: int) -> None:
            for turn in range(times):
                kernel.emit("order", order={"lines": [turn]})
                assert kernel.call("clean.give", n=turn, timeout=30) == {"lines": [turn], "first": None}
                assert kernel.reload("clean").leaked == []

        live(WARM)
        before, memory, objects = state(), resident(), len(gc.get_objects())
        began = time.monotonic()
        live(RELOADS)
        took = time.monotonic() - began
        eventually(lambda: no_more(state(), before), f"{state()}, no more than {before}")
        grown, more = resident() - memory, len(gc.get_objects()) - objects
        figures = f"memory {memory / 1e6:.1f} MB {grown / 1e6:+.2f} MB; objects {objects} {more:+}"
        print(f"\n{RELOADS} reloads, {level}: {took:.1f} s; {state()}; {figures}")
        assert grown < SMALL, figures
        assert kernel.unload("clean") == []


@pytest.mark.slow
@pytest.mark.parametrize("level", ["thread", "process"])
def test_reloads_allocate_nothing_that_stays(plugins: Plugins, level: str) -> None:
    """Counts what Python itself has allocated, which allocators do not blur."""
    plugins.add("clean", CLEAN)
    with plugins.kernel(level) as kernel:

        def measure(times: int) -> int:
            for _ in range(times):
                assert kernel.reload("clean").leaked == []
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            measure(20)
            before = measure(20)
            grown = measure(40) - before
        finally:
            tracemalloc.stop()
        assert grown < 40 * 50_000, f"{grown / 40:.0f} bytes a reload"  # an instance has 2,000,000
