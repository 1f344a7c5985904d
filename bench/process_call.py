"""P5: a call into another process and its answer, 100 bytes there and back.

Floor: one SEQPACKET pair and msgspec; the caller reads its own answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.call_peers import PEERS
from bench.kernels import kernel_of, place_workers
from bench.placement import Workspace
from bench.rows import Contender, Measure, Row, at_most, faster, native, pure
from bench.sockets import seqpacket_echo
from bench.timing import calls

ECHO = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def echo(self, data: bytes) -> bytes:
        return data
"""
_CALLS = 300


@contextmanager
def _ours(stage: Workspace) -> Iterator[Measure]:
    with kernel_of("process", echo=ECHO) as kernel:
        place_workers(kernel, stage)
        yield calls(lambda data: kernel.call("echo.echo", data, returns=bytes), stage.count(_CALLS))


@contextmanager
def _seqpacket(stage: Workspace) -> Iterator[Measure]:
    with seqpacket_echo(stage) as echo:
        yield calls(echo, stage.count(_CALLS))


ROWS = (
    Row(
        "P5",
        "call into a process plugin",
        ours=Contender("call", _ours),
        floor=Contender("SEQPACKET + msgspec", _seqpacket),
        peers=PEERS,
        targets=(
            *pure(at_most(2.5), faster(1.0, "Pyro5")),
            *native(at_most(1.25), faster(1.0, "mp.Pipe")),
            *native(*(faster(2.5, peer) for peer in ("Pyro5", "rpyc", "zmq"))),
            *native(*(faster(10.0, peer) for peer in ("gRPC", "NATS"))),
        ),
    ),
)
