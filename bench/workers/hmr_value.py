"""A module that hmr reloads: ``hmr_value FILE SOCKET``."""

from __future__ import annotations

import socket
import sys

from reactivity.hmr.api import SyncReloaderAPI

from bench.workers import ready
from bench.workers.values import tell


def main() -> None:
    path, asked = sys.argv[1:]
    reloader = SyncReloaderAPI(path, [path.rpartition("/")[0]])
    with reloader:
        ready()
        tell(socket.socket(fileno=int(asked)), reloader.entry_module)


main()
