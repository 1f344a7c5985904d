"""One kernel with a hostile plugin and a good one; what the embedding program and the good one notice is timed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from microkernel import Kernel
from microkernel.errors import KernelError
from tests.security.attacks.support import HEADER
from tests.security.siege.attacks import source

GOOD = """
class Plugin(IPlugin):
    def __init__(self, api): pass
    def start(self): pass
    def stop(self): pass
    @expose
    def answer(self, number: int) -> int: return number
"""
_LIST_PAUSE, _CALL_PAUSE, _MEMORY_PAUSE = 0.02, 0.005, 0.02  # seconds between two looks


@dataclass(frozen=True)
class Times:
    """Milliseconds are shown."""

    p99: float
    worst: float

    def __str__(self) -> str:
        return f"{self.p99 * 1e3:.1f} {self.worst * 1e3:.0f} ms"


@dataclass(frozen=True)
class Figures:
    """What one attack did. ``grown`` is in MiB. ``end``: how the attacker's last call ended, if with an error."""

    name: str
    list: Times
    call: Times
    grown: float
    end: str


def besiege(folder: Path, level: str, attacks: Iterable[str], seconds: float) -> Iterator[Figures]:
    """Run each attack for so many seconds, one after the other, on one kernel."""
    (folder / "h.py").write_text(source(level))
    (folder / "good.py").write_text(HEADER + GOOD)
    with Kernel([folder / "h.py", folder / "good.py"], grants={"h": "declared"}, name=f"siege-{os.getpid()}") as kernel:
        for name in attacks:
            with suppress(KernelError):
                kernel.kill("h")
            kernel.start("h", reset=True)
            yield _attack(kernel, name, seconds)


def _attack(kernel: Kernel, name: str, seconds: float) -> Figures:
    end = time.monotonic() + seconds
    before, sizes, said = _resident(), [0.0], [""]
    lists: list[float] = []
    calls: list[float] = []

    def attack() -> None:
        while (left := end - time.monotonic()) > 0:
            try:
                kernel.call("h.attack", name, left, timeout=seconds + 20)
            except KernelError as error:
                said[0] = str(error)[:100]
                time.sleep(0.05)
                with suppress(KernelError):  # it may be in quarantine by now: that ends one attack and no more
                    kernel.start("h", reset=True)

    work: list[Callable[[], object]] = [
        attack,
        lambda: _repeat(kernel.list, end, _LIST_PAUSE, lists),
        lambda: _repeat(lambda: kernel.call("good.answer", 1, timeout=60), end, _CALL_PAUSE, calls),
        lambda: _repeat(lambda: sizes.append(_resident() - before), end, _MEMORY_PAUSE, []),
    ]
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    with suppress(KernelError):
        kernel.kill("h")
    threads[0].join()
    return Figures(name, _times(lists), _times(calls), max(sizes), said[0])


def _repeat(work: Callable[[], object], end: float, pause: float, durations: list[float]) -> None:
    while (began := time.monotonic()) < end:
        work()
        durations.append(time.monotonic() - began)
        time.sleep(pause)


def _times(durations: list[float]) -> Times:
    ordered = sorted(durations)
    return Times(ordered[int(len(ordered) * 0.99)], ordered[-1])


def _resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
