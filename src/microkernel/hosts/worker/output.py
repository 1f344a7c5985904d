"""What a worker prints, line by line. Output without end is slowed down, not lost and not kept."""

from __future__ import annotations

import codecs
import os
import time
from collections import deque
from collections.abc import Callable, Iterator

from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.kernel.ports import Reactor
from microkernel.wire.secrets import Secrets

MAX_LINE = 16 * 1024
"""Characters of a line. One that is longer arrives as several, which joined are what was printed."""
_BUDGET = 256 * 1024
_PAUSE = 0.25
"""After ``_BUDGET`` bytes without a pause the pipe is not read for ``_PAUSE`` seconds: its writer waits."""
# Bytes that are read and decoded at once: what is not UTF-8 becomes four times as long.
_READ, _READ_UNTRUSTED = 64 * 1024, 16 * 1024
# Seconds for which lines are passed on before others have their turn.
_TURN = 0.002
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
        self._on_line = line
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
        self._work: deque[Iterator[None]] = deque()
        """What was read and not passed on yet. While there is any, nothing more is read."""
        self._is_scheduled = False

    def open(self) -> None:
        if not self._closed:
            self._read = 0
            self._reactor.watch(self._pipe, self._on_readable)

    def close(self) -> None:
        """Read what is left, and close. Of a worker that is not trusted, much of it is passed on after this has
        returned."""
        while True:
            data = self._receive()
            self._work.append(self._handle(data or b"", is_last=not data))
            if not data:
                break
        self._closed = True
        self._reactor.unwatch(self._pipe)
        os.close(self._pipe)
        while not self._emit_pending() and self.account is None:
            continue
        if self._work:
            self._schedule(0.0)

    def _on_readable(self) -> None:
        began = self._work_time()
        data = self._receive()
        if data is None:
            return
        self._work.append(self._handle(data, is_last=False))
        is_done = self._emit_pending()
        pause = self._charge(began)
        if self._read > _BUDGET:
            pause = max(pause, _PAUSE)
        if not data or pause or not is_done:
            self._reactor.unwatch(self._pipe)
        if (data and pause) or not is_done:
            self._schedule(pause)

    def _receive(self) -> bytes | None:
        """Empty at the end; None where there is nothing now."""
        try:
            data = os.read(self._pipe, _READ if self.account is None else _READ_UNTRUSTED)
        except BlockingIOError:
            return None
        self._read += len(data)
        return data

    def _charge(self, began: float) -> float:
        """Seconds to rest."""
        return self.account.spend(self._work_time() - began) if self.account is not None else 0.0

    def _work_time(self) -> float:
        return self.account.work_clock() if self.account is not None else 0.0

    def _schedule(self, pause: float) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.later(pause, self._continue)

    def _continue(self) -> None:
        """Pass on more of what was read, and read again when nothing of that is left."""
        self._is_scheduled = False
        if self._work:
            began = self._work_time()
            is_done = self._emit_pending()
            pause = self._charge(began)
            if not is_done or (pause and not self._closed):
                self._schedule(pause)
                return
        self.open()

    def _emit_pending(self) -> bool:
        """One turn of what was read. Return whether nothing is left of it."""
        until = time.monotonic() + _TURN
        while self._work:
            for _ in self._work[0]:
                if time.monotonic() >= until:
                    return False
            self._work.popleft()
        return True

    def _handle(self, data: bytes, *, is_last: bool) -> Iterator[None]:
        """Pass on the lines that this ends, and of what comes behind them as much as can be. Pauses now and then."""
        *lines, self._partial = (self._partial + self._decoder.decode(data, final=not data)).split("\n")
        for line in lines:
            cut = yield from self._secrets.redact_in_steps(line.removesuffix("\r"))
            self._end_line(cut)
            yield
        if "\r" in self._partial or len(self._partial) > MAX_LINE:
            self._partial = yield from self._secrets.redact_in_steps(self._partial)
        self._split_overwritten()
        while len(self._partial) > MAX_LINE + self._secrets.longest:
            self._on_line(self._partial[:MAX_LINE])
            self._partial = self._partial[MAX_LINE:]
        if is_last and (last := self._partial.removesuffix("\r") or self._overwritten):
            cut = yield from self._secrets.redact_in_steps(last)
            self._end_line(cut)

    def _end_line(self, line: str) -> None:
        *overwritten, last = line.split("\r")
        for each in overwritten:
            self._redraw(each)
        self._overwritten = ""
        self._emit(last)

    def _split_overwritten(self) -> None:
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
        self._reactor.later(_REDRAW, self._redraw_due)
        self._emit(line)

    def _redraw_due(self) -> None:
        self._is_redrawing = False
        line, self._overwritten = self._overwritten, ""
        if not self._closed:
            self._redraw(line)

    def _emit(self, line: str) -> None:
        """A line without secrets."""
        for start in range(0, max(len(line), 1), MAX_LINE):
            self._on_line(line[start : start + MAX_LINE])
