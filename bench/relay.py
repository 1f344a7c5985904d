"""P9: a plugin calls another, each in a separate process: on a direct channel, and through the kernel and its gate.

Floor: two processes as in P5's floor, and one between them that forwards messages without decoding them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.process_call import ECHO
from bench.rows import Contender, Measure, Row, at_most, native, pure
from bench.sockets import seqpackets, worker
from bench.timing import PAYLOAD

# Calls the other plugin, and returns the seconds of one call.
ASKS = """
import time
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def ask(self, count: int, data: bytes) -> float:
        began = time.perf_counter()
        for _ in range(count):
            if self.api.call("echo.echo", data, returns=bytes) != data:
                raise ValueError("not what was sent")
        return (time.perf_counter() - began) / count
"""
_CALLS = 200


@contextmanager
def _calls(stage: Workspace, direct_after: int) -> Iterator[Measure]:
    with kernel_of("process", {}, direct_after, asks=ASKS, echo=ECHO) as kernel:
        place_workers(kernel, stage)
        count = stage.count(_CALLS)
        yield lambda: float(kernel.call("asks.ask", count, PAYLOAD, timeout=60.0))


def _direct(stage: Workspace) -> AbstractContextManager[Measure]:
    return _calls(stage, 32)


def _relayed(stage: Workspace) -> AbstractContextManager[Measure]:
    return _calls(stage, 0)


@contextmanager
def _bare(stage: Workspace) -> Iterator[Measure]:
    with (
        seqpackets(3) as [(control, controlled), (near, relay_near), (relay_far, far)],
        worker(stage, "echo_lanes", fds=[far.fileno()]),
        worker(stage.of_kernel(), "relay", fds=[relay_near.fileno(), relay_far.fileno()]),
        worker(stage, "ask", fds=[controlled.fileno(), near.fileno()]),
    ):
        count = stage.count(_CALLS)

        def measure() -> float:
            control.send(b"%d" % count)
            return float(control.recv(64))

        yield measure


ROWS = (
    Row(
        "P9",
        "call from process plugin to process plugin",
        ours=Contender("call", _direct),
        floor=Contender("a bare relay process", _bare),
        peers=(Contender("through the kernel", _relayed),),
        targets=(*pure(at_most(1.15)), *native(at_most(0.7))),
    ),
)
