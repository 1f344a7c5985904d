"""Output of a worker, line by line. Endless output is throttled, neither lost nor buffered."""

from __future__ import annotations

import codecs
import os
import time
from collections import deque
from collections.abc import Callable, Iterator

from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.kernel.ports import Reactor
from microkernel.wire.secrets import Secrets

# Characters of a line. A longer one arrives as several, which joined are what was printed.
MAX_LINE = 16 * 1024
# Bytes read without a pause; after them the pipe is not read for ``_PAUSE`` seconds, so its writer waits.
_BUDGET = 256 * 1024
_PAUSE = 0.25
# Bytes that are read and decoded at once. Text that is not UTF-8 becomes four times as long.
_READ, _READ_UNTRUSTED = 64 * 1024, 16 * 1024
# Seconds for which lines are emitted before other descriptors have their turn.
_TURN = 0.002
# Seconds between two lines that are emitted of a line that overwrites itself, as a progress bar does.
_REDRAW = 1.0


class Output:
    """One pipe, decoded as UTF-8. On the reactor's thread.

    A line ends with a newline, or with a carriage return, after which a terminal would overwrite it. Of overwritten
    lines the first is emitted, and then the latest of each second.
    """

    def __init__(self, pipe: int, reactor: Reactor, line: Callable[[str], object], secrets: Secrets) -> None:
        """Read lines from ``pipe`` and call ``line`` with each.

        ``secrets`` are redacted before a line is split, so that no part of one is left on either side.
        """
        self._pipe = pipe
        self._reactor = reactor
        self._on_line = line
        self._secrets = secrets
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._partial = ""
        # The latest overwritten line that was not emitted.
        self._overwritten = ""
        self._is_redrawing = False
        self._read = 0
        self._closed = False
        # Where the cost of its lines is charged; None for nowhere.
        self._account: TimeAccount | None = None
        # What was read and not emitted yet. While there is any, nothing more is read.
        self._work: deque[Iterator[None]] = deque()
        self._is_scheduled = False

    def charge_to(self, account: TimeAccount) -> None:
        """Treat the worker as untrusted: charge the work on its lines to this account, and pause when it says so."""
        self._account = account

    def open(self) -> None:
        if not self._closed:
            self._read = 0
            self._reactor.watch(self._pipe, self._on_readable)

    def close(self) -> None:
        """Read what is left, and close. Much output of an untrusted worker is emitted after this has returned."""
        while True:
            data = self._receive()
            self._work.append(self._handle(data or b"", is_last=not data))
            if not data:
                break
        self._closed = True
        self._reactor.unwatch(self._pipe)
        os.close(self._pipe)
        while not self._emit_pending() and self._account is None:
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
        """Return what can be read: empty at the end, None if nothing is there now."""
        try:
            data = os.read(self._pipe, _READ if self._account is None else _READ_UNTRUSTED)
        except BlockingIOError:
            return None
        self._read += len(data)
        return data

    def _charge(self, began: float) -> float:
        """Charge the work since ``began``. Return the seconds to pause."""
        return self._account.spend(self._work_time() - began) if self._account is not None else 0.0

    def _work_time(self) -> float:
        return self._account.work_clock() if self._account is not None else 0.0

    def _schedule(self, pause: float) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.later(pause, self._continue)

    def _continue(self) -> None:
        """Emit more of what was read; read again when nothing of it is left."""
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
        """Emit lines for one turn. Return whether nothing is left."""
        until = time.monotonic() + _TURN
        while self._work:
            for _ in self._work[0]:
                if time.monotonic() >= until:
                    return False
            self._work.popleft()
        return True

    def _handle(self, data: bytes, *, is_last: bool) -> Iterator[None]:
        """Emit the lines that this data completes, and as much of an unfinished line as possible. Yields now and
        then."""
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
        """Take overwritten lines off the unfinished line. A carriage return at its very end may belong to a line's
        end."""
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
        """Emit a line that contains no secrets."""
        for start in range(0, max(len(line), 1), MAX_LINE):
            self._on_line(line[start : start + MAX_LINE])
