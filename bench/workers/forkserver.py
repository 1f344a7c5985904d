"""Start processes by the fork server of multiprocessing, with msgspec loaded: ``forkserver CONTROL``.

Reports the seconds from a start to the first answer.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from multiprocessing.connection import Connection

from bench.workers import descriptors, ready

_MESSAGE = bytes(100)


def answer(end: Connection) -> None:
    end.send(end.recv())


def main() -> None:
    [control] = (socket.socket(fileno=fd) for fd in descriptors())
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["msgspec", "bench.workers"])
    ready()
    while control.recv(64):
        began = time.perf_counter()
        ours, theirs = forking.Pipe()
        process = forking.Process(target=answer, args=(theirs,))
        process.start()
        ours.send(_MESSAGE)
        took = time.perf_counter() - began if ours.recv() == _MESSAGE else -1.0
        process.join()
        control.send(b"%r" % took)


if __name__ == "__main__":  # children load this module too
    main()
