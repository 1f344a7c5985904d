"""Fill SIZE bytes of memory, print the pid, and wait: ``heavy SIZE [SOCKET]``."""

from __future__ import annotations

import os
import signal
import sys

from bench.workers import ready

kept = b"1" * int(sys.argv[1])
ready(str(os.getpid()))
signal.pause()
