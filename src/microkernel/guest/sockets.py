"""Python's sockets in a guest, whose system has none: the kernel connects to granted hosts, and the worker relays
bytes.

``socket.socket`` is derived from the class that ``shim`` installs, so everything that Python builds on it (socket
files, ``http.client``, ``urllib``, asyncio's streams) is Python's own. Only TCP connections are supported; operations
that have no meaning for these are refused. While a blocking call waits, the whole guest waits; sockets of an event loop
never block.
"""

from __future__ import annotations

import _socket
import errno
import os
import time
from itertools import count
from typing import Any, NoReturn, Protocol

# Maximum number of bytes that the worker accepts at once.
_PIECE = 1 << 18
_WITHOUT_END = -1.0
_MOST_ASKED = 0xFFFF_FFFF
_FLAGS = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
# Options that the worker sets on each connection.
_IS_SET = ((_socket.SOL_SOCKET, _socket.SO_KEEPALIVE), (_socket.IPPROTO_TCP, _socket.TCP_NODELAY))
# First number of a connection, above every descriptor that a guest may have.
_FIRST = 1 << 16
_numbers = count(_FIRST)
Peer = tuple[str, int]


class SocketWorld(Protocol):
    """Imports of ``world.wit``."""

    def connect(self, connection: int, host: str, port: int, timeout: float) -> None: ...
    def read(self, connection: int, limit: int, timeout: float) -> str: ...
    def write(self, connection: int, data: str, timeout: float) -> int: ...
    def shutdown(self, connection: int, reading: bool, writing: bool) -> None: ...
    def close(self, connection: int) -> None: ...
    def secure(self, connection: int, host: str, authorities: str, flags: int, timeout: float) -> None: ...


# Classes of errors, by the name of their number.
ERRORS: dict[str, type[OSError]] = {}
_world: SocketWorld
_failure: type[Exception]
_tls_version = (0, "")


def connect_by(world: SocketWorld, failure: type[Exception]) -> None:
    """Set the functions of the world. ``failure`` is the exception that they raise."""
    global _world, _failure
    _world, _failure = world, failure


def shim(module: Any) -> None:
    """Patch ``_socket`` before anything imports ``socket``. The kernel resolves names."""
    module.socket = module.SocketType = GuestSocket
    module.getaddrinfo = _addresses


def _addresses(*arguments: Any, **more: Any) -> list[Any]:
    from microkernel.sdk.deferred_dns import addresses  # imports `socket`, which must come after this patch

    return addresses(*arguments, **more)


def tls_version() -> tuple[int, str]:
    """Return the number and the name of the OpenSSL that implements TLS for this guest."""
    return _tls_version


def set_tls_version(text: str) -> None:
    """Set the OpenSSL version: ``text`` is the number, a space, and the name."""
    global _tls_version
    number, _, name = text.partition(" ")
    _tls_version = int(number), name


def is_connection(number: int) -> bool:
    """Return whether a number may be a connection of this guest."""
    return number >= _FIRST


class GuestSocket:
    """Replaces ``_socket.socket``. Its number is chosen by the guest."""

    __slots__ = ("_asked", "_family", "_number", "_peer", "_timeout", "proto")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self._number = -1
        self._family = _socket.AF_INET if family == -1 else family
        self.proto = max(proto, 0)
        self._timeout = _socket.getdefaulttimeout()
        self._asked: Peer | None = None
        self._peer: Peer | None = None
        if fileno is not None:
            raise _error("ENOTSOCK")
        is_stream = type == -1 or type & ~_FLAGS == _socket.SOCK_STREAM
        if self._family not in (_socket.AF_INET, _socket.AF_INET6) or not is_stream:
            self._refuse()
        self._number = next(_numbers)

    def __del__(self) -> None:
        if hasattr(self, "_number"):  # else ``__init__`` failed
            GuestSocket.close(self)

    @property
    def family(self) -> int:
        return self._family

    @property
    def type(self) -> int:
        return _socket.SOCK_STREAM

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            _world.close(number)

    # Waiting

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, value: float | None) -> None:
        if value is not None and not value >= 0:
            raise ValueError("Timeout value out of range")
        self._timeout = None if value is None else float(value)

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def _wait(self) -> float:
        return _WITHOUT_END if self._timeout is None else self._timeout

    # Connecting

    def connect(self, address: Any) -> None:
        host, port = address[0], int(address[1])
        if not 0 <= port <= 0xFFFF:
            raise OverflowError("connect(): port must be 0-65535.")
        self._connect((host.decode() if isinstance(host, bytes) else str(host), port))

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _connect(self, peer: Peer) -> None:
        self._asked = None
        try:
            _call(_world.connect, self._open(), *peer, self._wait())
        except BlockingIOError:
            self._asked = peer
            raise
        self._peer = peer

    def getpeername(self) -> Peer:
        """Return the name and port that it was connected to."""
        if self._peer is None:
            raise _error("ENOTCONN")
        return self._peer

    def getsockname(self) -> NoReturn:
        raise _error("ENOTSUP")

    def getsockopt(self, level: int, option: int, buflen: int | None = None) -> int:  # noqa: ARG002
        """Return an option. SO_ERROR, with which programs ask how a connection attempt went, returns 0 or raises the
        error."""
        if (level, option) == (_socket.SOL_SOCKET, _socket.SO_ERROR):
            if self._asked:
                self._connect(self._asked)
            return 0
        if (level, option) in _IS_SET:
            return 1
        raise _error("ENOPROTOOPT")

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        if (level, option) not in _IS_SET or not any(value):
            raise _error("ENOPROTOOPT")

    def secure(self, host: str, authorities: str, flags: int) -> None:
        """Switch to TLS. If that fails, the connection is closed.

        ``authorities`` are certificates (PEM); empty for those that the machine trusts. ``flags`` are verification
        flags in addition to the worker's. Raises OSError.
        """
        if self._timeout == 0.0:
            raise ValueError("a socket that does not wait cannot be secured")
        _call(_world.secure, self._open(), host, authorities, flags, self._wait())

    # Bytes

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if flags:
            raise _error("ENOTSUP")
        number = self._open()
        if bufsize == 0:
            return b""
        text: str = _call(_world.read, number, min(bufsize, _MOST_ASKED), self._wait())
        return text.encode("latin-1")

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        return self._send(memoryview(data).cast("B"), flags, self._wait())

    def sendall(self, data: Any, flags: int = 0) -> None:
        left = memoryview(data).cast("B")
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while left:
            wait = _WITHOUT_END if until is None else max(0.0, until - time.monotonic())
            if wait == 0.0 and self._timeout:
                raise _error("ETIMEDOUT", "timed out")
            left = left[self._send(left, flags, wait) :]

    def _send(self, data: memoryview, flags: int, wait: float) -> int:
        if flags:
            raise _error("ENOTSUP")
        return int(_call(_world.write, self._open(), str(data[:_PIECE], "latin-1"), wait))

    def shutdown(self, how: int) -> None:
        reading, writing = how in (_socket.SHUT_RD, _socket.SHUT_RDWR), how in (_socket.SHUT_WR, _socket.SHUT_RDWR)
        if not (reading or writing):
            raise _error("EINVAL")
        _call(_world.shutdown, self._open(), reading, writing)

    def _open(self) -> int:
        if self._number < 0:
            raise _error("EBADF")
        return self._number

    # Unsupported operations

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise _error("EPERM", "the level wasm has connections by TCP to what was granted, and no other sockets")

    bind = listen = _accept = detach = recvfrom = recvfrom_into = sendto = _refuse


def _call(function: Any, *arguments: Any) -> Any:
    """Call a function of the world; its failures are raised as the guest's own errors. Raises OSError."""
    try:
        return function(*arguments)
    except _failure as failure:
        failure.with_traceback(None)  # its frames would keep the caller's sockets alive
        raise _error(*getattr(failure, "value")) from None  # noqa: B009


def _error(name: str, text: str = "") -> OSError:
    """Return an error with the guest's own errno, because numbers differ."""
    if name.startswith("EAI_"):
        return _socket.gaierror(getattr(_socket, name, _socket.EAI_FAIL), text)
    if name in ERRORS:
        return ERRORS[name](1, text)
    code = getattr(errno, name, errno.EIO)
    return OSError(code, text or os.strerror(code))
