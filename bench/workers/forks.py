"""Fork a child that answers calls, send its pid, and kill it on request: ``forks CONTROL SOCKET``."""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from bench.workers import descriptors, ready
from bench.workers.messages import DATAGRAM, Answer, decode_call, encode


def main() -> None:
    control, lane = (socket.socket(fileno=fd) for fd in descriptors())
    ready()
    while control.recv(64):
        child = os.fork() or _answer(lane)
        control.send(b"%d" % child)
        control.recv(64)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        control.send(b"ended")


def _answer(lane: socket.socket) -> NoReturn:
    while data := lane.recv(DATAGRAM):
        call = decode_call(data)
        lane.send(encode(Answer(call.id, call.data)))
    os._exit(0)


main()
