"""A zmq REP over ipc: ``zmq_echo ADDRESS``."""

from __future__ import annotations

import sys

import zmq

from bench.workers import ready

with zmq.Context() as context, context.socket(zmq.REP) as socket:
    socket.bind(sys.argv[1])
    ready()
    while True:
        socket.send(socket.recv())
