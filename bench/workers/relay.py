"""Forward messages and their answers without decoding them: ``relay NEAR FAR``."""

from __future__ import annotations

import socket

from bench.workers import descriptors, ready
from bench.workers.messages import DATAGRAM


def main() -> None:
    near, far = (socket.socket(fileno=fd) for fd in descriptors())
    ready()
    while data := near.recv(DATAGRAM):
        far.send(data)
        near.send(far.recv(DATAGRAM))


main()
