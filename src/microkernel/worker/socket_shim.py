"""Python's sockets where the system refuses them: the kernel connects to granted hosts, and passes the connection on.

A new socket is one end of a pair that is not connected to anything; ``connect`` asks the kernel, by name and port, and
replaces the end by the connection, under the same number. So ``http.client``, ``urllib``, ``ssl``, httpx and asyncio's
own streams work; C code that connects by itself does not. Names are resolved by the kernel: ``getaddrinfo`` returns
them unresolved.
"""

from __future__ import annotations

import _socket
import asyncio
import errno
import os
import socket
import struct
import threading
from asyncio import selector_events
from asyncio.selector_events import BaseSelectorEventLoop
from concurrent.futures import Future
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from microkernel.errors import PermissionDenied
from microkernel.sdk.deferred_dns import addresses
from microkernel.wire.codec import decode, encode

# Default timeout of a connection, in seconds.
CONNECT_TIMEOUT = 30.0
_MAX_NAME = 255
_FAMILIES = (-1, socket.AF_INET, socket.AF_INET6)
# The options that were set on each socket before it was connected.
_unconnected: WeakKeyDictionary[socket.socket, list[tuple[Any, ...]]] = WeakKeyDictionary()
_init, _connect, _set_option = socket.socket.__init__, socket.socket.connect, socket.socket.setsockopt
_connect_in_loop = BaseSelectorEventLoop.sock_connect


class BrokerClient:
    """Asks the kernel for connections. On any thread. ``end`` is None if nothing was granted."""

    def __init__(self, name: str, end: socket.socket | None) -> None:
        self._name = name
        self._end = end
        self._numbers = count(1)
        self._waiting: dict[int, Future[int]] = {}
        self._reader = threading.Lock()
        self._has_reader = False

    def connect(self, host: str, port: int, timeout: float | None) -> int:
        """Return a descriptor. Raises OSError."""
        seconds = timeout or CONNECT_TIMEOUT
        answer = self.request(host, port, seconds)
        try:
            return answer.result(seconds + 1.0)
        except BaseException:
            discard(answer)
            raise

    def request(self, host: str, port: int, seconds: float) -> Future[int]:
        """Return a future of a descriptor, or of an OSError. Raises OSError if nothing can be requested."""
        if self._end is None:
            what = f"{host}:{port}"
            refusal = PermissionDenied("MK0401", name=self._name, action="net", what=what, line=f'net = ["{what}"]')
            raise PermissionError(errno.EPERM, str(refusal))
        if not 0 < port < 65536:
            raise OSError(errno.EADDRNOTAVAIL, f"{port} is no port")
        if len(host) > _MAX_NAME:
            raise socket.gaierror(socket.EAI_NONAME, f"no name has {len(host)} characters")
        self._start_reader()
        number, answer = next(self._numbers), Future[int]()
        self._waiting[number] = answer
        self._end.send(encode([number, host, port, seconds]))
        return answer

    def _start_reader(self) -> None:
        with self._reader:
            if not self._has_reader:
                self._has_reader = True
                threading.Thread(target=self._read, name="microkernel-net", daemon=True).start()

    def _read(self) -> None:
        assert self._end is not None
        while True:
            data, ancillary, _, _ = self._end.recvmsg(4096, socket.CMSG_SPACE(4))
            if not data:
                return
            handle = struct.unpack("i", ancillary[0][2])[0] if ancillary else -1
            number, code, text = decode(data)
            answer = self._waiting.pop(number)
            if handle >= 0:
                answer.set_result(handle)
            elif code < 0:
                answer.set_exception(socket.gaierror(code, text))
            else:  # a connection was made, but no descriptor was left to receive it
                code = code or errno.EMFILE
                answer.set_exception(OSError(code, text or os.strerror(code)))


def discard(answer: Future[int]) -> None:
    """Close the descriptor when it arrives, because it is no longer wanted."""
    answer.add_done_callback(_close_descriptor)


def _close_descriptor(answer: Future[int]) -> None:
    if not answer.exception():
        os.close(answer.result())


def install(broker: BrokerClient) -> None:
    """Replace the methods of sockets for all code of this process."""

    def connect(self: socket.socket, address: Any) -> None:
        if self not in _unconnected:
            return _connect(self, address)
        handle = broker.connect(str(address[0]), int(address[1]), self.gettimeout())
        _replace_descriptor(self, handle)
        return None

    def connect_ex(self: socket.socket, address: Any) -> int:
        try:
            connect(self, address)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    for method, function in {
        "__init__": _socket_init, "connect": connect, "connect_ex": connect_ex, "setsockopt": _set_now_or_later,
    }.items():  # fmt: skip
        setattr(socket.socket, method, function)
    _remove_sendmsg()
    socket.getaddrinfo = addresses
    BaseSelectorEventLoop.sock_connect = _sock_connect  # type: ignore[assignment,method-assign]


class _Refused:
    """Replaces a method that this level does not have, so that ``hasattr`` returns False."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(f"socket.{self._name} is not available at this level, which passes no descriptors on")


def _remove_sendmsg() -> None:
    """Remove ``sendmsg``, which the system refuses because it could carry descriptors to the kernel.

    Libraries that find it would use it, and have an alternative; asyncio looked before this process was confined.
    """
    for name in ("sendmsg", "sendmsg_afalg"):
        refused = _Refused()
        refused.__set_name__(socket.socket, name)
        setattr(socket.socket, name, refused)
    selector_events._HAS_SENDMSG = False  # type: ignore[attr-defined]


def _socket_init(
    self: socket.socket, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
) -> None:
    kind = socket.SOCK_STREAM if type == -1 else type
    if fileno is not None or family not in _FAMILIES or kind & 0xF != socket.SOCK_STREAM:
        _init(self, family, type, proto, fileno)
        return
    nowhere, other = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    other.close()
    _init(self, socket.AF_INET if family == -1 else family, kind, max(proto, 0), nowhere.detach())
    _unconnected[self] = []


def _replace_descriptor(end: socket.socket, handle: int) -> None:
    os.dup2(handle, end.fileno(), inheritable=False)
    os.close(handle)
    end.settimeout(end.gettimeout())  # set on the new descriptor: it was a property of the replaced one
    for option in _unconnected.pop(end):
        _set_option(end, *option)


def _set_now_or_later(self: socket.socket, *option: Any) -> None:
    if self not in _unconnected:
        _set_option(self, *option)
        return
    if option and option[0] == socket.SOL_SOCKET:
        _set_option(self, *option)  # an option that the system refuses fails now, not at the connection
    _unconnected[self].append(option)


async def _sock_connect(self: BaseSelectorEventLoop, sock: socket.socket, address: Any) -> None:
    """Connect on another thread, because an event loop must not wait for the kernel."""
    if sock in _unconnected:
        await asyncio.get_running_loop().run_in_executor(None, sock.connect, address)
    else:
        await _connect_in_loop(self, sock, address)
