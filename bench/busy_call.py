"""P8: the call of P5 while a thread plugin computes in the kernel's process and competes for the interpreter lock.

Floor: the same call without the computation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bench.computing import Computing
from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.process_call import ECHO
from bench.reader_thread import reader_thread
from bench.rows import Contender, Measure, Row, Target, at_most
from bench.threads import thread
from bench.timing import percentile
from microkernel.kernel.config import PluginConfig

COMPUTES = """
from bench.computing import Computing
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self):
        self.computing = Computing()
        self.api.spawn(self.computing.run)
    def stop(self):
        self.computing.end()
    @expose
    def begin(self) -> None:
        self.computing.begin()
    @expose
    def pause(self) -> None:
        self.computing.pause()
"""
_CALLS = 300
# Calls of one measurement of a contender that may take some milliseconds for each.
_SLOW = 60
# Python's default switch interval in seconds: how long a thread may compute while others wait.
_SWITCH = 0.005


@contextmanager
def _ours(share: int, stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", {"compute": PluginConfig(isolation="thread")}, echo=ECHO, compute=COMPUTES) as kernel:
        place_workers(kernel, stage)
        measure = percentile(share, lambda data: kernel.call("echo.echo", data, returns=bytes), stage.count(_CALLS))
        yield _while(lambda: kernel.call("compute.begin"), measure, lambda: kernel.call("compute.pause", timeout=30.0))


@contextmanager
def _idle(share: int, stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", echo=ECHO) as kernel:
        place_workers(kernel, stage)
        yield percentile(share, lambda data: kernel.call("echo.echo", data, returns=bytes), stage.count(_CALLS))


@contextmanager
def _reader(share: int, stage: Workspace) -> Iterator[Measure]:
    """Measure with Python's default switch interval, because a kernel in this process may have changed it."""
    computing = Computing()

    def begin() -> None:
        sys.setswitchinterval(_SWITCH)
        computing.begin()

    with reader_thread(stage) as echo, thread(computing.run, computing.end):
        yield _while(begin, percentile(share, echo, stage.count(_SLOW)), computing.pause)


def _while(begin: Callable[[], object], measure: Measure, pause: Callable[[], object]) -> Measure:
    def measured() -> float:
        before = sys.getswitchinterval()
        begin()
        try:
            return measure()
        finally:
            pause()
            sys.setswitchinterval(before)

    return measured


def _row(share: int, limits: tuple[Target, ...]) -> Row:
    return Row(
        "P8",
        f"p{share} of a call into a process plugin while a thread plugin computes",
        ours=Contender("call", partial(_ours, share)),
        floor=Contender("the same while nobody computes", partial(_idle, share)),
        peers=(Contender("a reader thread", partial(_reader, share)),),
        targets=limits,
        placements=("diff", "same"),
        rounds=8,
        warm_ups=1,
    )


ROWS = (_row(50, (at_most(2.0),)), _row(99, (at_most(0.05, "a reader thread"),)))
