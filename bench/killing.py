"""P13: from the decision to kill a plugin until its caller gets the error, whatever the plugin's memory size.

Floor: one thread notifies another through a future. The peers kill a process of the same size and wait for its exit.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, WrongAnswer, within
from bench.sockets import seqpackets, worker
from bench.timing import check
from microkernel.errors import PluginDied

HANGS = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def hang(self, size: int) -> None:
        kept = b"1" * size
        self.api.emit("hangs.now")
        while True:
            self.api.sleep(60.0)
"""
# Bytes of memory that the plugin has written to.
_SIZE = 256 << 20
_PATIENCE = 30.0


@contextmanager
def _ours(stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", hangs=HANGS) as kernel:
        hanging = threading.Event()
        kernel.on("hangs.now", hanging.set, inline=True)

        def wait() -> None:
            try:
                kernel.call("hangs.hang", _size(stage), timeout=_PATIENCE)
            except PluginDied:
                return
            raise WrongAnswer("it lives")

        def measure() -> float:
            hanging.clear()
            kernel.start("hangs")
            place_workers(kernel, stage)
            return _seconds_until(wait, hanging, lambda: kernel.kill("hangs"))

        kernel.stop("hangs")
        yield measure


@contextmanager
def _future(_stage: Workspace) -> Iterator[Measure]:
    def measure() -> float:
        future, waiting = Future[None](), threading.Event()

        def wait() -> None:
            waiting.set()
            check(type(future.exception(_PATIENCE)), ConnectionError)

        return _seconds_until(wait, waiting, lambda: future.set_exception(ConnectionError()))

    yield measure


def _seconds_until(wait: Callable[[], object], waiting: threading.Event, kill: Callable[[], object]) -> float:
    """Return the seconds from ``kill`` until ``wait``, called on a separate thread, returns."""
    ended = Future[float]()

    def caller() -> None:
        try:
            wait()
            ended.set_result(time.perf_counter())
        except BaseException as error:
            ended.set_exception(error)

    calling = threading.Thread(target=caller)
    calling.start()
    if not waiting.wait(_PATIENCE):
        raise WrongAnswer("nobody waits")
    began = time.perf_counter()
    kill()
    took = ended.result(_PATIENCE) - began
    calling.join()
    return took


@contextmanager
def _pidfd(stage: Workspace) -> Iterator[Measure]:
    def measure() -> float:
        with worker(stage, "heavy", _size(stage)) as pid:
            handle = os.pidfd_open(int(pid))
            began = time.perf_counter()
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [])
            took = time.perf_counter() - began
            os.close(handle)
        return took

    yield measure


@contextmanager
def _end_of_file(stage: Workspace) -> Iterator[Measure]:
    def measure() -> float:
        with seqpackets() as [(ours, theirs)], worker(stage, "heavy", _size(stage), fds=[theirs.fileno()]) as pid:
            theirs.close()
            began = time.perf_counter()
            os.kill(int(pid), signal.SIGKILL)
            check(ours.recv(1), b"")
            return time.perf_counter() - began

    yield measure


def _size(stage: Workspace) -> int:
    return 1 << 20 if stage.smoke else _SIZE


ROWS = (
    Row(
        "P13",
        f"kill of a process plugin of {_SIZE >> 20} MiB until its callers are told",
        ours=Contender("kill", _ours),
        floor=Contender("a future", _future),
        peers=(Contender("SIGKILL, wait for the pidfd", _pidfd), Contender("SIGKILL, end of file", _end_of_file)),
        targets=(within(0.000_5),),
        placements=("free",),
        rounds=8,
        warm_ups=1,
    ),
)
