"""Pyro5, with the fastest of its serializers, over a Unix socket: ``pyro_echo SOCKET``."""

from __future__ import annotations

import sys

from Pyro5 import config
from Pyro5.api import Daemon, expose

from bench.workers import ready


@expose
class Echo:
    def echo(self, data: bytes) -> bytes:
        return data


config.SERIALIZER = "msgpack"
daemon = Daemon(unixsocket=sys.argv[1])
ready(str(daemon.register(Echo())))
daemon.requestLoop()
