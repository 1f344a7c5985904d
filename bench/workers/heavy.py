"""Has so many bytes and waits; its address is its pid: ``heavy SIZE [SOCKET]``."""

from __future__ import annotations

import os
import signal
import sys

from bench.workers import ready

kept = b"1" * int(sys.argv[1])
ready(str(os.getpid()))
signal.pause()
