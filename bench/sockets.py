"""Worker processes of floors and peers: another interpreter that runs one module of ``bench.workers``."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.placement import Workspace
from bench.workers.messages import DATAGRAM, Call, decode_answer, encode


@contextmanager
def worker(stage: Workspace, module: str, *arguments: object, fds: Sequence[int] = ()) -> Iterator[str]:
    """Start a worker; return the address that it prints when it is ready. It inherits ``fds`` as further arguments."""
    command = [sys.executable, "-m", f"bench.workers.{module}", *map(str, [*arguments, *fds])]
    with subprocess.Popen(command, pass_fds=fds, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise RuntimeError(f"bench.workers.{module} did not start")
            stage.place_process(process.pid)
            yield said.strip()
        finally:
            process.terminate()


@contextmanager
def seqpackets(count: int = 1) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Return pairs of connected sockets that preserve message boundaries."""
    with ExitStack() as opened:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        for end in (end for pair in pairs for end in pair):
            opened.enter_context(end)
        yield pairs


def asker(lane: socket.socket) -> Callable[[bytes], bytes]:
    """Return a function that sends a call on this socket and reads its own answer."""
    number = 0

    def echo(data: bytes) -> bytes:
        nonlocal number
        number += 1
        lane.send(encode(Call(number, "echo", data)))
        answer = decode_answer(lane.recv(DATAGRAM))
        return answer.data if answer.id == number else b""

    return echo


@contextmanager
def seqpacket_echo(stage: Workspace) -> Iterator[Callable[[bytes], bytes]]:
    """Return a bare call into another process: one SEQPACKET pair and msgspec."""
    with seqpackets() as [(ours, theirs)], worker(stage, "echo_lanes", fds=[theirs.fileno()]):
        yield asker(ours)
