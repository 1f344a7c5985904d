"""A module that jurigged updates: ``jurigged_value FILE [DEBOUNCE] SOCKET``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import jurigged
from jurigged.live import DEFAULT_DEBOUNCE

from bench.workers import ready
from bench.workers.values import imported, tell


def main() -> None:
    name, *debounce, asked = sys.argv[1:]
    path = Path(name)
    seconds = float(*debounce or [DEFAULT_DEBOUNCE])
    jurigged.watch(str(path.with_name("*.py")), logger=lambda _event: None, debounce=seconds)
    module = imported(path)
    ready()
    tell(socket.socket(fileno=int(asked)), module)


main()
