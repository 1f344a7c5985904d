"""Python's sockets in a guest, where the system has none: the kernel connects to what was granted, and bytes travel
through the worker.

``socket.socket`` is made from the class that ``shim`` puts in place, so that what Python builds on it (files of
sockets, ``http.client``, ``urllib``, asyncio's streams) is Python's own. There are connections by TCP and nothing else:
what has no meaning for these is refused. While one waits, all of the guest does; those of an event loop never wait.
"""

from __future__ import annotations

import _socket
import errno
import os
import time
from itertools import count
from typing import Any, NoReturn, Protocol

_PIECE = 1 << 18
"""Bytes that the worker takes at once, at most."""
_WITHOUT_END = -1.0
_MOST_ASKED = 0xFFFF_FFFF
_FLAGS = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
_IS_SET = ((_socket.SOL_SOCKET, _socket.SO_KEEPALIVE), (_socket.IPPROTO_TCP, _socket.TCP_NODELAY))
"""By the worker, on each."""
_FIRST = 1 << 16
"""Above every descriptor that a guest may have."""
_numbers = count(_FIRST)
Peer = tuple[str, int]


class World(Protocol):
    """Imports of ``world.wit``."""

    def connect(self, connection: int, host: str, port: int, timeout: float) -> None: ...
    def read(self, connection: int, most: int, timeout: float) -> str: ...
    def write(self, connection: int, data: str, timeout: float) -> int: ...
    def shutdown(self, connection: int, reading: bool, writing: bool) -> None: ...
    def close(self, connection: int) -> None: ...
    def secure(self, connection: int, host: str, authorities: str, flags: int, timeout: float) -> None: ...


ERRORS: dict[str, type[OSError]] = {}
"""Of those that have classes of their own, by name."""
_world: World
_failure: type[Exception]
_tls_version = (0, "")


def connect_by(world: World, failure: type[Exception]) -> None:
    """Before anything connects. ``failure``: how an import of the world says that it failed."""
    global _world, _failure
    _world, _failure = world, failure


def shim(module: Any) -> None:
    """In ``_socket``, before anything imports ``socket``. Names stay names, and are looked up by the kernel."""
    module.socket = module.SocketType = GuestSocket
    module.getaddrinfo = _addresses


def _addresses(*arguments: Any, **more: Any) -> list[Any]:
    from microkernel.sdk.deferred_dns import addresses  # which imports `socket`, which this is to come before

    return addresses(*arguments, **more)


def tls_version() -> tuple[int, str]:
    """The number and the name of the OpenSSL that speaks TLS for this guest."""
    return _tls_version


def set_tls_version(text: str) -> None:
    """``text``: the number, a blank, the name."""
    global _tls_version
    number, _, name = text.partition(" ")
    _tls_version = int(number), name


def is_connection(number: int) -> bool:
    """Whether a socket here may have that number."""
    return number >= _FIRST


class GuestSocket:
    """What ``_socket.socket`` is elsewhere. Its number is the guest's own name for a connection."""

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
        if hasattr(self, "_number"):  # else it never became one
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
        """The name that it was connected to."""
        if self._peer is None:
            raise _error("ENOTCONN")
        return self._peer

    def getsockname(self) -> NoReturn:
        raise _error("ENOTSUP")

    def getsockopt(self, level: int, option: int, buflen: int | None = None) -> int:  # noqa: ARG002
        """How a connection that was asked for went is asked as everywhere; what is wrong is raised."""
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
        """By TLS from here on. When that fails, there is no connection any more. ``authorities``: certificates (PEM);
        empty for those that the machine trusts. ``flags``: of verification, beside the worker's. Raises OSError."""
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

    # What there is not

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise _error("EPERM", "the level wasm has connections by TCP to what was granted, and no other sockets")

    bind = listen = _accept = detach = recvfrom = recvfrom_into = sendto = _refuse


def _call(function: Any, *arguments: Any) -> Any:
    """Of the world; its failures are the guest's own errors. Raises OSError."""
    try:
        return function(*arguments)
    except _failure as failure:
        failure.with_traceback(None)  # whose frames hold it, and with it all sockets of who called
        raise _error(*getattr(failure, "value")) from None  # noqa: B009


def _error(name: str, text: str = "") -> OSError:
    """The numbers of errors are the guest's."""
    if name.startswith("EAI_"):
        return _socket.gaierror(getattr(_socket, name, _socket.EAI_FAIL), text)
    if name in ERRORS:
        return ERRORS[name](1, text)
    code = getattr(errno, name, errno.EIO)
    return OSError(code, text or os.strerror(code))
