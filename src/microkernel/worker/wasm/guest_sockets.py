"""Network connections of a guest: the kernel makes them, and the guest refers to them by numbers that it chose.

The guest never sees a descriptor. A number leads to its own connections or to none. How many there are and how much one
call moves is bounded. An error is returned, never raised as a trap: by the name of the errno and its text, because the
numbers differ in a guest.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from errno import EAGAIN, EBADF, EILSEQ, EINPROGRESS, EINVAL, EISCONN, EMFILE, ENOTCONN, errorcode
from functools import wraps
from typing import Any, TypeVar

from microkernel.worker.socket_shim import CONNECT_TIMEOUT, BrokerClient, discard

# Connections of one guest at the same time.
MAX_CONNECTIONS = 64
# Bytes that one call moves at most.
MAX_BYTES = 1 << 18
# The system rejects timeouts of more than some weeks.
_MAX_TIMEOUT = 1e6
# Set on each connection, so that a guest finds set what its libraries ask for.
_OPTIONS = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_NODELAY))
_VERIFICATION = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
_NAMES_OF_LOOKUP = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
# TLS may have to read before it can write.
_WAITS: dict[type[Exception], int] = {ssl.SSLWantReadError: select.POLLIN, ssl.SSLWantWriteError: select.POLLOUT}
Failure = tuple[str, str]
T = TypeVar("T")


class Connections:
    """The connections of one guest, on the worker's main thread.

    A connection keeps the number that the guest chose for it, from the request on.
    """

    def __init__(self, broker: BrokerClient) -> None:
        self._broker = broker
        self._pending: dict[int, Future[int]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._trust: tuple[tuple[str, int], ssl.SSLContext] | None = None
        # Readable when a pending connection has arrived.
        self._arrivals = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def functions(self) -> dict[str, Any]:
        """Return the functions that ``world.wit`` declares."""
        return {
            "connect": _returning_failures(self.connect),
            "read": _returning_failures(self.read),
            "write": _returning_failures(self.write),
            "shutdown": _returning_failures(self.shutdown),
            "secure": _returning_failures(self.secure),
            "close": self.close,
        }

    def connect(self, number: int, host: str, port: int, timeout: float) -> None:
        """Connect. With a timeout of 0 only request the connection; a later call returns it."""
        if number in self._sockets:
            raise OSError(EISCONN, os.strerror(EISCONN))
        if number not in self._pending:
            self._request(number, host, port, timeout)
        answer = self._pending[number]
        seconds = _seconds(timeout, CONNECT_TIMEOUT)
        wait([answer], seconds)
        if not answer.done() and seconds == 0.0:
            raise BlockingIOError(EINPROGRESS, os.strerror(EINPROGRESS))
        del self._pending[number]
        self._accept(number, answer)

    def _request(self, number: int, host: str, port: int, timeout: float) -> None:
        if len(self._pending) + len(self._sockets) >= MAX_CONNECTIONS:
            raise OSError(EMFILE, f"a plugin at the level wasm has {MAX_CONNECTIONS} connections at once, at most")
        answer = self._broker.request(
            host, port, min(_seconds(timeout, CONNECT_TIMEOUT) or CONNECT_TIMEOUT, CONNECT_TIMEOUT)
        )
        answer.add_done_callback(self._note_arrival)
        self._pending[number] = answer

    def _note_arrival(self, _answer: Future[int]) -> None:
        os.eventfd_write(self._arrivals, 1)

    def _accept(self, number: int, answer: Future[int]) -> None:
        if not answer.done():
            discard(answer)
            raise TimeoutError("timed out")
        made = self._sockets[number] = socket.socket(fileno=answer.result())
        made.setblocking(False)
        for level, option in _OPTIONS:
            made.setsockopt(level, option, 1)

    def read(self, number: int, limit: int, timeout: float) -> str:
        """Return at most ``limit`` bytes; empty at the end of the stream."""
        end = self._socket(number)
        return _retry_until(lambda: end.recv(min(limit, MAX_BYTES)), end, select.POLLIN, timeout).decode("latin-1")

    def write(self, number: int, data: str, timeout: float) -> int:
        """Return how many bytes were sent."""
        end = self._socket(number)
        try:
            piece = data[:MAX_BYTES].encode("latin-1")
        except UnicodeEncodeError:
            raise OSError(EILSEQ, "what is written is one character for a byte") from None
        return _retry_until(lambda: end.send(piece), end, select.POLLOUT, timeout)

    def shutdown(self, number: int, reading: bool, writing: bool) -> None:
        hows = {(True, True): socket.SHUT_RDWR, (True, False): socket.SHUT_RD, (False, True): socket.SHUT_WR}
        if how := hows.get((reading, writing)):
            self._socket(number).shutdown(how)

    def close(self, number: int) -> None:
        """Close a connection. Does nothing if the number is unknown."""
        if number in self._pending:
            discard(self._pending.pop(number))
        if number in self._sockets:
            self._sockets.pop(number).close()

    def secure(self, number: int, host: str, authorities: str, flags: int, timeout: float) -> None:
        """Start TLS. Without ``authorities`` (PEM) they are this machine's, or those of ``SSL_CERT_FILE`` in the
        worker's environment.

        ``flags``: of verification, in addition to the usual ones.
        """
        self._socket(number)
        with self._sockets.pop(number) as plain:
            secured = _wrap_tls(self._trusting(authorities, flags & _VERIFICATION), plain, host)
        try:
            _retry_until(secured.do_handshake, secured, select.POLLIN, timeout)
        except BaseException:
            secured.close()
            raise
        self._sockets[number] = secured

    def _trusting(self, authorities: str, flags: int) -> ssl.SSLContext:
        """Return the context for these authorities. The last one is kept, because a client uses the same for each
        connection."""
        requested = authorities, flags
        if self._trust is None or self._trust[0] != requested:
            try:
                context = ssl.create_default_context(cadata=authorities or None)
            except TypeError:
                raise OSError(EILSEQ, "certificates are ASCII") from None
            context.verify_flags |= flags
            self._trust = requested, context
        return self._trust[1]

    def _socket(self, number: int) -> socket.socket:
        if number in self._sockets:
            return self._sockets[number]
        code = ENOTCONN if number in self._pending else EBADF
        raise OSError(code, os.strerror(code))

    def wait(
        self, ends: Mapping[int, socket.socket], reading: Iterable[int], writing: Iterable[int], timeout: float
    ) -> tuple[int, list[int], list[int]]:
        """Return which of the channel's ends, by their sources, and of these connections are ready; perhaps none at the
        timeout.

        An unknown number is ready: the next call returns the error.
        """
        requested = {select.POLLIN: set(reading), select.POLLOUT: set(writing)}
        events = dict.fromkeys([*(end.fileno() for end in ends.values()), self._arrivals], select.POLLIN)
        for event, numbers in requested.items():
            for number in numbers & self._sockets.keys():
                handle = self._sockets[number].fileno()
                events[handle] = events.get(handle, 0) | event
        at_once = any(self._is_ready(number, event, {}) for event, numbers in requested.items() for number in numbers)
        found = _polled(events, 0.0 if at_once else timeout)
        if self._arrivals in found:
            os.eventfd_read(self._arrivals)
        can = {
            event: [each for each in numbers if self._is_ready(each, event, found)]
            for event, numbers in requested.items()
        }
        sources = sum(source for source, end in ends.items() if end.fileno() in found)
        return sources, can[select.POLLIN], can[select.POLLOUT]

    def _is_ready(self, number: int, event: int, found: Mapping[int, int]) -> bool:
        if number not in self._sockets:
            return number not in self._pending or self._pending[number].done()
        end = self._sockets[number]
        is_read_ahead = event == select.POLLIN and isinstance(end, ssl.SSLSocket) and end.pending() > 0
        return is_read_ahead or bool(found.get(end.fileno(), 0) & (event | select.POLLERR | select.POLLHUP))


def _wrap_tls(trust: ssl.SSLContext, plain: socket.socket, host: str) -> ssl.SSLSocket:
    """Wrap a socket. Raises OSError."""
    try:
        return trust.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    except (ValueError, TypeError):
        raise OSError(EINVAL, "that is no name of a host") from None


def _polled(events: Mapping[int, int], timeout: float) -> dict[int, int]:
    poll = select.poll()
    for descriptor, event in events.items():
        poll.register(descriptor, event)
    return dict(poll.poll(None if timeout < 0 else _seconds(timeout, 0.0) * 1000))


def _retry_until(attempt: Callable[[], T], end: socket.socket, event: int, timeout: float) -> T:
    """Retry ``attempt`` until the system does not ask to wait. ``timeout``: below 0 for none."""
    until = time.monotonic() + _seconds(timeout, 0.0)
    while True:
        try:
            return attempt()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            event = _WAITS.get(type(error), event)
        if timeout == 0.0:
            raise BlockingIOError(EAGAIN, os.strerror(EAGAIN))
        left = -1.0 if timeout < 0 else max(0.0, until - time.monotonic())
        if not _polled({end.fileno(): event}, left) and left == 0.0:
            raise TimeoutError("timed out")


def _seconds(timeout: float, endless: float) -> float:
    """Return the timeout; ``endless`` if it is below 0 or not a number."""
    return min(timeout, _MAX_TIMEOUT) if timeout >= 0 else endless


def _returning_failures(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function to return an OSError as a failure."""

    @wraps(function)
    def answer(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except OSError as error:
            return failure(error)

    return answer


def failure(error: OSError) -> Failure:
    """Return the name of an error and its text."""
    if isinstance(error, socket.gaierror):
        return _NAMES_OF_LOOKUP.get(error.errno or 0, "EAI_FAIL"), error.strerror or str(error)
    if isinstance(error, ssl.SSLError):
        is_unverified = isinstance(error, ssl.SSLCertVerificationError)
        return "SSLCertVerificationError" if is_unverified else "SSLError", error.strerror or str(error)
    default = "ETIMEDOUT" if isinstance(error, TimeoutError) else "EIO"
    return errorcode.get(error.errno or 0, default), error.strerror or str(error)
