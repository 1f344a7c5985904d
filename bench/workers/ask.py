"""Call over a socket as often as requested, and report the seconds of one call: ``ask CONTROL SOCKET``."""

from __future__ import annotations

import socket

from bench.sockets import asker
from bench.timing import calls
from bench.workers import descriptors, ready


def main() -> None:
    control, lane = (socket.socket(fileno=fd) for fd in descriptors())
    echo = asker(lane)
    ready()
    while told := control.recv(64):
        control.send(b"%r" % calls(echo, int(told))())


main()
