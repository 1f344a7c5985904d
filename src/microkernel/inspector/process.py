"""The process that parses the files of plugins for the kernel, one text at a time, with bounds on memory and time.

It is executed, not forked, so it contains nothing of the kernel. A text that takes too much ends it by a signal or a
lack of memory; the kernel then starts another. It exits with the kernel.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import struct
import sys
from typing import Any

from microkernel.inspector.operations import perform
from microkernel.inspector.sources import NotParsed

LENGTH = struct.Struct("!I")
# Bytes of an answer and of a request.
MAX_ANSWER = 8 << 20
MAX_REQUEST = 32 << 20
_CHANNEL = 0
# A lack of memory and too deep nesting raise the same exception. It is the former if this share of the memory was in
# use.
_EXHAUSTED_SHARE = 0.5


def main() -> None:
    """Serve requests. Arguments: the kernel's pid, and the memory limit in bytes. The socket is descriptor 0."""
    kernel, memory = map(int, sys.argv[-2:])
    end = os.pidfd_open(kernel)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _write(LENGTH.pack(0))
    while (request := _next(end)) is not None:
        answer = json.dumps(_answer(request, memory), ensure_ascii=False).encode("utf-8", "backslashreplace")
        _write(LENGTH.pack(len(answer)) + answer)


def _next(kernel: int) -> Any:
    """Return the next request; None if the kernel is gone. A forked copy of it may hold the other end of the socket."""
    poll = select.poll()
    poll.register(_CHANNEL, select.POLLIN)
    poll.register(kernel, select.POLLIN)
    if kernel in dict(poll.poll()):
        return None
    head = _read(LENGTH.size)
    return json.loads(_read(*LENGTH.unpack(head))) if head else None


def _write(content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(_CHANNEL, rest) :]


def _read(size: int) -> bytes:
    """Read exactly ``size`` bytes; none if the other end is closed."""
    content = bytearray()
    while len(content) < size:
        part = os.read(_CHANNEL, min(1 << 20, size - len(content)))
        if not part:
            return b""
        content += part
    return bytes(content)


def _answer(request: Any, memory: int) -> Any:
    seconds, operation, *arguments = request
    signal.setitimer(signal.ITIMER_PROF, seconds)  # processor time; its signal ends the process, also in C code
    try:
        return {"answer": perform(operation, arguments)}
    except NotParsed as failure:
        if failure.__context__ is not None and isinstance(failure.__context__, MemoryError):
            _end_if_exhausted(memory)
        return {"line": failure.line, "reason": failure.reason}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _end_if_exhausted(memory: int) -> None:
    if _peak_memory() > memory * _EXHAUSTED_SHARE:
        raise MemoryError


def _peak_memory() -> int:
    """Return the peak memory in bytes. ``ru_maxrss`` would be at least what the kernel's process had when it started
    this one."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next((int(line.split()[1]) << 10 for line in status if line.startswith(b"VmHWM:")), 0)
    except OSError:
        return 0
