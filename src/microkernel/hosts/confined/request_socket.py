"""The kernel's end of a socket on which a confined worker asks the kernel to do what the system refuses the worker.

Requests and answers are MessagePack arrays, one a datagram. Nothing is ever received but bytes.
"""

from __future__ import annotations

import array
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from errno import EAGAIN, ENOBUFS
from typing import NamedTuple

from microkernel.errors import InvalidArguments, KernelError, ProtocolError
from microkernel.hosts.worker.socket_pairs import blocking_pair
from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

# Seconds charged for what a request takes on a thread of its own.
_THREAD_COST = 0.0002


class Answer(NamedTuple):
    """``code`` is 0 or a number of an error, ``text`` says more about it, ``connection`` is handed over and then closed."""

    code: int = 0
    text: str = ""
    connection: socket.socket | None = None


class RequestSocket:
    """One worker's. ``open``, ``close`` and ``handle_request`` run on the reactor's thread; each piece of work on its own.

    A subclass says in ``what`` which requests it takes, in ``max_request`` how many bytes one has at most, and in
    ``max_concurrent`` how many are worked on at the same time; it decodes and answers them in ``handle_request``.
    """

    what = "request"
    max_request = 1024
    max_concurrent = 16

    def __init__(self, reactor: Reactor, malformed: Callable[[KernelError], object]) -> None:
        self._reactor = reactor
        self._malformed = malformed
        self._end, self.worker_end = blocking_pair()
        self._in_progress = 0
        self.account: TimeAccount | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        self._reactor.watch(self._end.fileno(), self._read)

    def close(self) -> None:
        self._reactor.unwatch(self._end.fileno())
        with self._lock:  # an answer that is just being sent is sent before
            self._end.close()

    def discard(self) -> None:
        """Close both ends of one that was never opened, because there is no worker."""
        self._end.close()
        self.worker_end.close()

    def handle_request(self, data: bytes) -> None:
        """Answer one request, or have it worked on. Raises InvalidArguments or ValueError if it does not fit."""
        raise NotImplementedError

    def work(self, number: int, act: Callable[[], Answer]) -> None:
        """Do something that may wait, on a thread of its own, and answer the request with what it returns."""
        with self._lock:
            is_busy = self._in_progress >= self.max_concurrent
            self._in_progress += not is_busy
        if is_busy:
            self.answer(number, ENOBUFS, f"{self.max_concurrent} requests for a {self.what} are being worked on already")
            return
        try:
            threading.Thread(target=self._run, args=(number, act), name="microkernel-request", daemon=True).start()
        except RuntimeError as error:  # this machine has no thread left
            self._finish(number, Answer(EAGAIN, str(error)))

    def answer(self, number: int, code: int, text: str, handle: int = -1) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))] if handle >= 0 else []
        with self._lock, suppress(OSError):  # the worker has ended, or does not read what it asked for
            if self._end.fileno() >= 0:
                self._end.sendmsg([codec.encode([number, code, text])], rights, socket.MSG_DONTWAIT)

    def _run(self, number: int, act: Callable[[], Answer]) -> None:
        self._finish(number, act())

    def _finish(self, number: int, answer: Answer) -> None:
        with self._lock:  # before the worker knows, which may ask for the next thing at once
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
        """A worker that asks without pause has to wait when it has taken its share of the kernel's time."""
        pause = self.account.spend(seconds + _THREAD_COST) if self.account is not None else 0.0
        if pause:
            self._reactor.unwatch(self._end.fileno())
            self._reactor.later(pause, self._resume)

    def _resume(self) -> None:
        if self._end.fileno() >= 0:
            self.open()
