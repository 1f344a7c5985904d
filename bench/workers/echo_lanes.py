"""Read calls from one socket, and answer each on the socket that its id selects: ``echo_lanes DOWN LANE...``.

Without further sockets, the first is used for the answers.
"""

from __future__ import annotations

import socket

from bench.workers import descriptors, ready
from bench.workers.messages import DATAGRAM, Answer, decode_call, encode


def main() -> None:
    down, *lanes = (socket.socket(fileno=fd) for fd in descriptors())
    answers = lanes or [down]
    methods = {"echo": lambda data: data}
    ready()
    while data := down.recv(DATAGRAM):
        call = decode_call(data)
        answers[call.id % len(answers)].send(encode(Answer(call.id, methods[call.method](call.data))))


main()
