"""``./run bench soak --minutes 60``: events, calls and reloads at a moderate rate, and the resources used.

Fails if an answer is wrong, or if memory, descriptors or threads grow beyond their bounds.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

from bench.kernels import kernel_of
from bench.processes import descriptors_of, resident_of, threads_of
from bench.report import value_text
from bench.timing import PAYLOAD, check
from microkernel import Kernel
from microkernel.kernel.config import PluginConfig

_PLUGIN = """
from microkernel import IPlugin, expose, on
class Plugin(IPlugin):
    def __init__(self, api):
        super().__init__(api)
        self.count = 0
    def start(self): pass
    def stop(self): pass
    def export_state(self): return self.count
    def import_state(self, state, from_version): self.count = state
    @on("soak.tick")
    def tick(self, data: bytes) -> None:
        self.count += 1
    @expose
    def counted(self) -> int:
        return self.count
    @expose
    def echo(self, data: bytes) -> bytes:
        return data
"""
_PLUGINS = ("in_thread", "one", "two", "three")
# Seconds between two turns. A turn is an event to all, and a call of each.
_TURN = 0.05
# Turns between two reloads. Only process plugins are reloaded, because Python keeps modules of thread plugins.
_RELOAD = 40
_PATIENCE = 30.0
# Minimum number of samples, even in a short run.
_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident bytes of the kernel's process and of its workers; descriptors and threads of the kernel's process."""

    kernel: int
    workers: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Bound:
    """Permitted growth: a share of the first value, or a number, whichever is more."""

    share: float
    least: int

    def holds(self, first: int, last: int) -> bool:
        return last - first <= max(first * self.share, self.least)


_MiB = 1 << 20
BOUNDS = {
    "kernel": Bound(0.10, 8 * _MiB),
    "workers": Bound(0.10, 8 * _MiB),
    "descriptors": Bound(0.0, 4),
    "threads": Bound(0.0, 2),
}


def main(arguments: Sequence[str]) -> None:
    minutes = _minutes(arguments)
    levels = {"in_thread": PluginConfig(isolation="thread")}
    with kernel_of("process", levels, **dict.fromkeys(_PLUGINS, _PLUGIN)) as kernel:
        samples = soak(kernel, minutes * 60.0)
    first, last = samples[0], samples[-1]
    failed = [name for name, bound in BOUNDS.items() if not bound.holds(getattr(first, name), getattr(last, name))]
    for field in fields(Sample):
        mark = "✗" if field.name in failed else "✓"
        print(f"{mark} {field.name:<12} {_text(field.name, first)} -> {_text(field.name, last)}")
    sys.exit(1 if failed else 0)


def _minutes(arguments: Sequence[str]) -> float:
    parser = argparse.ArgumentParser(prog="./run bench soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    return float(parser.parse_args(arguments).minutes)


def soak(kernel: Kernel, seconds: float) -> list[Sample]:
    """Return a sample of each minute, or more in a short run. The first is taken after everything was done once."""
    turn, every = 0, min(60.0, seconds / _SAMPLES)
    for _ in range(_RELOAD * len(_PLUGINS)):
        turn = _one_turn(kernel, turn)
    samples = [_sampled(kernel)]
    for number in range(1, round(seconds / every) + 1):
        until = time.monotonic() + every
        while time.monotonic() < until:
            turn = _one_turn(kernel, turn)
            time.sleep(_TURN)
        samples.append(_sampled(kernel))
        print(f"· {number * every / 60:.1f} min, {turn:,} turns: {_line(samples[-1])}", file=sys.stderr)
    for name in _PLUGINS:
        check(kernel.call(f"{name}.counted", timeout=_PATIENCE), turn)
    check(kernel.dead_letters(), [])
    return samples


def _one_turn(kernel: Kernel, turn: int) -> int:
    kernel.emit("soak.tick", data=PAYLOAD)
    for name in _PLUGINS:
        check(kernel.call(f"{name}.echo", PAYLOAD, returns=bytes, timeout=_PATIENCE), PAYLOAD)
    if turn % _RELOAD == 0:
        _, *processes = _PLUGINS
        kernel.reload(processes[turn // _RELOAD % len(processes)])
    return turn + 1


def _sampled(kernel: Kernel) -> Sample:
    gc.collect()
    own = os.getpid()
    workers = [info.pid for info in kernel.list() if info.pid and info.pid != own]
    return Sample(resident_of(own), sum(map(resident_of, workers)), descriptors_of(own), threads_of(own))


def _text(name: str, sample: Sample) -> str:
    value = getattr(sample, name)
    return value_text(value, "B") if name in ("kernel", "workers") else str(value)


def _line(sample: Sample) -> str:
    return ", ".join(f"{field.name} {_text(field.name, sample)}" for field in fields(Sample))
