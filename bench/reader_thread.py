"""The usual design of a client: one pair of sockets, and a thread that reads all answers and completes futures."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from bench.placement import Workspace
from bench.sockets import seqpackets, worker
from bench.threads import thread
from bench.workers.messages import DATAGRAM, Call, decode_answer, encode

_PATIENCE = 60.0


@contextmanager
def reader_thread(stage: Workspace) -> Iterator[Callable[[bytes], bytes]]:
    """Return a function that calls an echoing process; any thread may use it."""
    waiting: dict[int, Future[bytes]] = {}
    numbers = itertools.count(1)

    with seqpackets() as [(ours, theirs)], worker(stage, "echo_lanes", fds=[theirs.fileno()]):

        def read() -> None:
            while data := ours.recv(DATAGRAM):
                answer = decode_answer(data)
                waiting.pop(answer.id).set_result(answer.data)

        def echo(data: bytes) -> bytes:
            number, future = next(numbers), Future[bytes]()
            waiting[number] = future
            ours.send(encode(Call(number, "echo", data)))
            return future.result(_PATIENCE)

        with thread(read, lambda: ours.shutdown(socket.SHUT_RDWR)):
            yield echo
