"""Return the value of a reloaded module's function whenever it is requested."""

from __future__ import annotations

import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType


def imported(path: Path) -> ModuleType:
    sys.path.insert(0, os.fspath(path.parent))
    return import_module(path.stem)


def tell(asked: socket.socket, module: ModuleType) -> None:
    while asked.recv(64):
        asked.send(b"%d" % module.value())
