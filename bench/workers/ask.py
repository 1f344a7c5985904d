"""Told how often, it calls over a socket and tells how many seconds a call took: ``ask CONTROL SOCKET``."""

from __future__ import annotations

import socket

from bench.timing import PAYLOAD, calls
from bench.workers import descriptors, ready
from bench.workers.messages import DATAGRAM, Call, decode_answer, encode


def main() -> None:
    control, lane = (socket.socket(fileno=fd) for fd in descriptors())
    number = 0

    def echo(data: bytes) -> bytes:
        nonlocal number
        number += 1
        lane.send(encode(Call(number, "echo", data)))
        answer = decode_answer(lane.recv(DATAGRAM))
        return answer.data if answer.id == number else b""

    ready()
    while told := control.recv(64):
        control.send(b"%r" % calls(echo, int(told), PAYLOAD)())


main()
