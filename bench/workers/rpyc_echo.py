"""rpyc over a Unix socket: ``rpyc_echo SOCKET``."""

from __future__ import annotations

import sys

import rpyc
from rpyc.utils.server import OneShotServer

from bench.workers import ready


class Echo(rpyc.Service):  # type: ignore[misc]
    def exposed_echo(self, data: bytes) -> bytes:
        return data


server = OneShotServer(Echo, socket_path=sys.argv[1])
ready()
server.start()
