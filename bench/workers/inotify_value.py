"""A module whose source is compiled and run again as soon as inotify reports a save: ``inotify_value FILE SOCKET``."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import sys
from pathlib import Path

from bench.workers import ready
from bench.workers.values import imported

_CLOSE_WRITE = 0x8


def main() -> None:
    path, asked = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    module = imported(path)
    libc = ctypes.CDLL(None)
    notified = libc.inotify_init()
    libc.inotify_add_watch(notified, os.fsencode(path.parent), _CLOSE_WRITE)
    ready()
    while True:
        coming, _, _ = select.select([notified, asked], [], [])
        if notified in coming:
            os.read(notified, 4096)
            exec(compile(path.read_bytes(), path, "exec"), vars(module))
        elif not asked.recv(64):
            return
        else:
            asked.send(b"%d" % module.value())


main()
