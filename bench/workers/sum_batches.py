"""Add up the numbers of batched events; an empty batch requests the sum: ``sum_batches SOCKET``."""

from __future__ import annotations

import socket

from bench.workers import descriptors, ready
from bench.workers.messages import DATAGRAM, Tick, decode_ticks, encode


class Sum:
    def __init__(self) -> None:
        self.total = 0

    def tick(self, number: int) -> None:
        self.total += number


def main() -> None:
    [events] = (socket.socket(fileno=fd) for fd in descriptors())
    found = Sum()
    handle = found.tick
    ready()
    while data := events.recv(DATAGRAM):
        batch = decode_ticks(data)
        for event in batch:
            handle(event.number)
        if not batch:
            events.send(encode(Tick(found.total)))
            found.total = 0


main()
