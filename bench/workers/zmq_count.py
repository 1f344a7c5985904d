"""A zmq PAIR that counts messages; an empty message requests the count: ``zmq_count ADDRESS``."""

from __future__ import annotations

import sys

import zmq

from bench.workers import ready

with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
    socket.bind(sys.argv[1])
    ready()
    while True:
        count = 0
        while socket.recv():
            count += 1
        socket.send(b"%d" % count)
