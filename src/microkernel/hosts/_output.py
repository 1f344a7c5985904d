"""What a worker prints, line by line. Output without end is slowed down, not lost and not kept."""

from __future__ import annotations

import os
from collections.abc import Callable

from microkernel.kernel.ports import Reactor

_LONGEST = 16 * 1024
"""A line that is longer is cut into several."""
_BUDGET = 256 * 1024
_REST = 0.25
"""After ``_BUDGET`` bytes without a pause the pipe is not read for ``_REST`` seconds: its writer waits."""


class Output:
    """One pipe. On the reactor's thread."""

    def __init__(self, pipe: int, reactor: Reactor, line: Callable[[str], object]) -> None:
        self._pipe = pipe
        self._reactor = reactor
        self._line = line
        self._partial = b""
        self._read = 0
        self._closed = False

    def open(self) -> None:
        if not self._closed:
            self._read = 0
            self._reactor.watch(self._pipe, self._ready)

    def close(self) -> None:
        """Read what is left, and close."""
        while self._take():
            continue
        if self._partial:
            self._emit(self._partial)
        self._closed = True
        self._reactor.unwatch(self._pipe)
        os.close(self._pipe)

    def _ready(self) -> None:
        if not self._take():
            self._reactor.unwatch(self._pipe)
        elif self._read > _BUDGET:
            self._reactor.unwatch(self._pipe)
            self._reactor.later(_REST, self.open)

    def _take(self) -> bool:
        """Read once; False when there is nothing to read."""
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return False
        self._read += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._emit(line)
        while len(self._partial) > _LONGEST:
            self._emit(self._partial[:_LONGEST])
            self._partial = self._partial[_LONGEST:]
        return bool(data)

    def _emit(self, line: bytes) -> None:
        for start in range(0, max(len(line), 1), _LONGEST):
            self._line(line[start : start + _LONGEST].decode(errors="backslashreplace"))
