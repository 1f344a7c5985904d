"""Connects for a confined worker to what it was granted, and passes the connection to it.

The worker names a host and a port; the grant is looked up here, the name is resolved here, and what is connected is an
address that was looked at here: what a name means a moment later does not matter. Nothing is ever received but bytes.
"""

from __future__ import annotations

import array
import ipaddress
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EACCES, EIO, ENOBUFS, EPERM, ETIMEDOUT
from functools import partial
from typing import Any

from microkernel.errors import InvalidArguments, KernelError, PermissionDenied, ProtocolError
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

_LONGEST = 1024
_MOST_AT_ONCE = 16
_PATIENCE = 60.0
_LOCAL_NAMES = ("localhost",)


class Broker:
    """One worker's. ``open``, ``close`` and reading on the reactor's thread; each connection on a thread of its own."""

    def __init__(
        self, name: str, grants: Sequence[str], reactor: Reactor, malformed: Callable[[KernelError], object]
    ) -> None:
        self._name = name
        self._grants = [_parsed(grant) for grant in grants]
        self._reactor = reactor
        self._malformed = malformed
        self._end, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._under_way = 0
        self._lock = threading.Lock()

    def open(self) -> None:
        self._reactor.watch(self._end.fileno(), self._read)

    def close(self) -> None:
        self._reactor.unwatch(self._end.fileno())
        with self._lock:  # who answers just now does so before
            self._end.close()

    def _read(self) -> None:
        try:
            data = self._end.recv(_LONGEST, socket.MSG_DONTWAIT)
        except OSError:
            return
        if not data:
            self._reactor.unwatch(self._end.fileno())
            return
        try:
            self._consider(*_decode(data))
        except (InvalidArguments, ValueError) as failure:
            self._reactor.unwatch(self._end.fileno())
            self._malformed(ProtocolError("MK0215", reason=f"not a request for a connection: {failure}"))

    def _consider(self, number: int, host: str, port: int, seconds: float) -> None:
        if not permits(self._grants, host, port):
            what = f"{host[:100]}:{port}"
            refusal = PermissionDenied("MK0401", name=self._name, action="net", what=what, line=f'net = ["{what}"]')
            self._answer(number, EPERM, str(refusal))
        elif self._under_way >= _MOST_AT_ONCE:
            self._answer(number, ENOBUFS, f"{_MOST_AT_ONCE} connections are being made already")
        else:
            with self._lock:
                self._under_way += 1
            work = partial(self._connect, number, host, port, min(seconds, _PATIENCE))
            threading.Thread(target=work, name="microkernel-net", daemon=True).start()

    def _connect(self, number: int, host: str, port: int, seconds: float) -> None:
        try:
            with connected(host, port, time.monotonic() + seconds) as made:
                self._answer(number, 0, "", made.fileno())
        except socket.gaierror as error:
            self._answer(number, error.errno or socket.EAI_FAIL, error.strerror or "")
        except TimeoutError:
            self._answer(number, ETIMEDOUT, os.strerror(ETIMEDOUT))
        except (OSError, ValueError) as error:  # of a name that can be none
            code = getattr(error, "errno", None) or EIO
            self._answer(number, code, getattr(error, "strerror", None) or str(error))
        finally:
            with self._lock:
                self._under_way -= 1

    def _answer(self, number: int, code: int, text: str, handle: int = -1) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))] if handle >= 0 else []
        with self._lock, suppress(OSError):  # it is gone, or does not read what it asked for
            if self._end.fileno() >= 0:
                self._end.sendmsg([codec.encode([number, code, text])], rights, socket.MSG_DONTWAIT)


def _decode(data: bytes) -> tuple[int, str, int, float]:
    request: tuple[int, str, int, float] = codec.decode(data, tuple[int, str, int, float])
    if not (0 < request[2] < 65536 and 0.0 <= request[3] < math.inf):
        raise ValueError("no port, or no time")
    return request


Grant = tuple[str, str]


def _parsed(grant: str) -> Grant:
    """``host:port``; an IPv6 address stands in brackets."""
    host, _, port = grant.rpartition(":")
    return _plain(host), port


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def permits(grants: Sequence[Grant], host: str, port: int) -> bool:
    """Whether one of them is for this host, by the very name it was granted by (``*.example.com``: a name below), and
    this port (``*``: any)."""
    name = _plain(host)
    return any(
        (granted == name or (granted.startswith("*.") and name.endswith(granted[1:]))) and on in (str(port), "*")
        for granted, on in grants
    )


def connected(host: str, port: int, deadline: float) -> socket.socket:
    """Raises OSError, gaierror, TimeoutError."""
    failure: OSError = OSError(EACCES, f"{host} is an address of this machine, which its name does not say")
    for family, kind, protocol, _, address in socket.getaddrinfo(_plain(host), port, type=socket.SOCK_STREAM):
        if not _may_be(host, str(address[0])):
            continue
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(max(0.001, deadline - time.monotonic()))
            made.connect(address)
            made.setblocking(True)
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


def _may_be(host: str, address: str) -> bool:
    """Who owns a name decides where it leads: not to this machine itself, nor to what only it can see."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    is_ours = found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast
    return not is_ours or _plain(host) in _LOCAL_NAMES or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(_plain(host).partition("%")[0]))
    except ValueError:
        return False
