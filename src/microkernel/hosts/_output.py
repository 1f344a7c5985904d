"""What a worker prints, line by line. Output without end is slowed down, not lost and not kept."""

from __future__ import annotations

import codecs
import os
import time
from collections import deque
from collections.abc import Callable

from microkernel.hosts._time_share import TimeAccount
from microkernel.kernel.ports import Reactor
from microkernel.wire.secrets import Secrets

LONGEST = 16 * 1024
"""Characters of a line. One that is longer arrives as several, which joined are what was printed."""
_BUDGET = 256 * 1024
_REST = 0.25
"""After ``_BUDGET`` bytes without a pause the pipe is not read for ``_REST`` seconds: its writer waits."""
# Lines that are passed on in one turn.
_LINES = 250
_REDRAW = 1.0
"""Seconds between two lines that are shown of what is printed over itself, as a progress bar is."""


class Output:
    """One pipe, decoded as UTF-8. On the reactor's thread.

    A line ends with a newline, or with a carriage return, after which a terminal would print over it: of such lines
    the first is passed on, and then the latest of each second.
    """

    def __init__(self, pipe: int, reactor: Reactor, line: Callable[[str], object], secrets: Secrets) -> None:
        """``secrets`` are cut out of a line before it is divided, so that no part of one is left on either side."""
        self._pipe = pipe
        self._reactor = reactor
        self._line = line
        self._secrets = secrets
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._partial = ""
        self._overwritten = ""
        """The latest line that was printed over and not passed on."""
        self._is_redrawing = False
        self._read = 0
        self._closed = False
        self.account: TimeAccount | None = None
        """What its lines cost is charged here; None: nowhere."""
        self._waiting: deque[str] = deque()
        """Lines that were read and not passed on yet. While there are any, nothing more is read."""
        self._is_scheduled = False

    def open(self) -> None:
        if not self._closed:
            self._read = 0
            self._reactor.watch(self._pipe, self._ready)

    def close(self) -> None:
        """Read what is left, and close. Of a worker that is not trusted, very many lines are passed on after this has
        returned."""
        while self._take():
            continue
        self._closed = True
        while self._waiting and self.account is None:
            self._pass_on()
        if self._waiting:
            self._schedule(0.0)
        else:
            self._end()
        self._reactor.unwatch(self._pipe)
        os.close(self._pipe)

    def _end(self) -> None:
        last = self._partial.removesuffix("\r") or self._overwritten
        if last:
            self._end_line(last)

    def _ready(self) -> None:
        began = time.monotonic()
        if not self._take():
            self._reactor.unwatch(self._pipe)
            if self._waiting:
                self._schedule(self._charge(began))
            return
        pause = self._charge(began)
        if self._read > _BUDGET:
            pause = max(pause, _REST)
        if pause or self._waiting:
            self._reactor.unwatch(self._pipe)
            self._schedule(pause)

    def _charge(self, began: float) -> float:
        """Seconds to rest."""
        return self.account.spend(time.monotonic() - began) if self.account is not None else 0.0

    def _schedule(self, pause: float) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.later(pause, self._continue)

    def _continue(self) -> None:
        """Pass on more of what was read, and read again when nothing of that is left."""
        self._is_scheduled = False
        if self._waiting:
            began = time.monotonic()
            self._pass_on()
            pause = self._charge(began)
            if self._waiting or (pause and not self._closed):
                self._schedule(pause)
                return
        if self._closed:
            self._end()
        else:
            self.open()

    def _take(self) -> bool:
        """Read once; False when there is nothing to read."""
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return False
        self._read += len(data)
        *lines, self._partial = (self._partial + self._decoder.decode(data, final=not data)).split("\n")
        self._waiting.extend(lines)
        self._pass_on()
        if not self._waiting:
            self._overwrite()
        if len(self._partial) > LONGEST:
            self._shorten()
        return bool(data)

    def _pass_on(self) -> None:
        """As many as a turn has time for."""
        for _ in range(min(_LINES, len(self._waiting))):
            self._end_line(self._waiting.popleft().removesuffix("\r"))

    def _end_line(self, line: str) -> None:
        *overwritten, last = line.split("\r")
        for each in overwritten:
            self._redraw(each)
        self._overwritten = ""
        self._emit(last)

    def _overwrite(self) -> None:
        """A carriage return at the very end may be one half of a line's end."""
        end = "\r" if self._partial.endswith("\r") else ""
        *overwritten, last = self._partial.removesuffix("\r").split("\r")
        self._partial = last + end
        for each in overwritten:
            self._redraw(each)

    def _redraw(self, line: str) -> None:
        if not line:
            return
        if self._is_redrawing:
            self._overwritten = line
            return
        self._is_redrawing = True
        self._reactor.later(_REDRAW, self._redrawn)
        self._emit(line)

    def _redrawn(self) -> None:
        self._is_redrawing = False
        line, self._overwritten = self._overwritten, ""
        if not self._closed:
            self._redraw(line)

    def _shorten(self) -> None:
        """Pass on the beginning of a line without end, as far as no secret can reach beyond it."""
        self._partial = self._secrets.cut(self._partial)
        while len(self._partial) > LONGEST + self._secrets.longest:
            self._line(self._partial[:LONGEST])
            self._partial = self._partial[LONGEST:]

    def _emit(self, line: str) -> None:
        line = self._secrets.cut(line)
        for start in range(0, max(len(line), 1), LONGEST):
            self._line(line[start : start + LONGEST])
