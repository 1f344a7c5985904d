"""The kernel's end of a socket on which a confined worker asks for operations that the system refuses to the worker.

Requests and answers are MessagePack arrays, one per datagram. No descriptors are ever received.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from errno import EAGAIN, ENOBUFS
from typing import NamedTuple

from microkernel.errors import InvalidArguments, KernelError, ProtocolError
from microkernel.hosts.worker.socket_pairs import blocking_pair, send_with_descriptors
from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

# Seconds charged for the work of a request on another thread.
_THREAD_COST = 0.0002


class Answer(NamedTuple):
    """``code``: 0 or an errno. ``text``: details of the error. ``connection``: handed over and then closed."""

    code: int = 0
    text: str = ""
    connection: socket.socket | None = None


class RequestSocket:
    """Serves one worker. ``open``, ``close`` and ``handle_request`` run on the reactor's thread, each piece of work on
    another.

    A subclass sets ``what``, the name of its requests, ``max_request``, their size in bytes, and ``max_concurrent``,
    how many are processed at the same time; it decodes and answers them in ``handle_request``.
    """

    what = "request"
    max_request = 1024
    max_concurrent = 16

    def __init__(self, reactor: Reactor, malformed: Callable[[KernelError], object]) -> None:
        self._reactor = reactor
        self._malformed = malformed
        self._end, self.worker_end = blocking_pair()
        self._in_progress = 0
        self._account: TimeAccount | None = None
        self._lock = threading.Lock()

    def charge_to(self, account: TimeAccount) -> None:
        """Charge the work on requests to this account, and pause when it says so."""
        self._account = account

    def open(self) -> None:
        self._reactor.watch(self._end.fileno(), self._read)

    def close(self) -> None:
        self._reactor.unwatch(self._end.fileno())
        with self._lock:  # waits for an answer that is just being sent
            self._end.close()

    def discard(self) -> None:
        """Close both ends of one that was never opened, because there is no worker."""
        self._end.close()
        self.worker_end.close()

    def handle_request(self, data: bytes) -> None:
        """Answer one request, or start work on it. Raises InvalidArguments or ValueError if it is malformed."""
        raise NotImplementedError

    def work(self, number: int, act: Callable[[], Answer]) -> None:
        """Run ``act``, which may wait, on another thread, and answer the request with its result."""
        with self._lock:
            is_busy = self._in_progress >= self.max_concurrent
            self._in_progress += not is_busy
        if is_busy:
            self.answer(
                number, ENOBUFS, f"{self.max_concurrent} requests for a {self.what} are being worked on already"
            )
            return
        try:
            threading.Thread(target=self._run, args=(number, act), name="microkernel-request", daemon=True).start()
        except RuntimeError as error:  # no thread is left on this machine
            self._finish(number, Answer(EAGAIN, str(error)))

    def answer(self, number: int, code: int, text: str, handle: int = -1) -> None:
        with self._lock, suppress(OSError):  # the worker has exited, or does not read its answers
            if self._end.fileno() >= 0:
                descriptors = [handle] if handle >= 0 else []
                send_with_descriptors(self._end, codec.encode([number, code, text]), descriptors)

    def _run(self, number: int, act: Callable[[], Answer]) -> None:
        self._finish(number, act())

    def _finish(self, number: int, answer: Answer) -> None:
        with self._lock:  # before the answer, because the worker may send its next request at once
            self._in_progress -= 1
        with closing(answer.connection) if answer.connection else nullcontext():
            self.answer(number, answer.code, answer.text, answer.connection.fileno() if answer.connection else -1)

    def _read(self) -> None:
        try:
            data = self._end.recv(self.max_request, socket.MSG_DONTWAIT)
        except OSError:
            return
        if not data:
            self._reactor.unwatch(self._end.fileno())
            return
        began = time.thread_time()
        try:
            self.handle_request(data)
            self._charge(time.thread_time() - began)
        except (InvalidArguments, ValueError) as failure:
            self._reactor.unwatch(self._end.fileno())
            self._malformed(ProtocolError("MK0215", reason=f"not a request for a {self.what}: {failure}"))

    def _charge(self, seconds: float) -> None:
        """Charge the time, and pause a worker that has used up its share of the kernel's time."""
        pause = self._account.spend(seconds + _THREAD_COST) if self._account is not None else 0.0
        if pause:
            self._reactor.unwatch(self._end.fileno())
            self._reactor.later(pause, self._resume)

    def _resume(self) -> None:
        if self._end.fileno() >= 0:
            self.open()
