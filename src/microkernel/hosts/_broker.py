"""Connects for a confined worker to what it was granted, and passes the connection to it.

The worker names a host and a port; the grant is looked up here, the name is resolved here, and what is connected is an
address that was looked at here: what a name means a moment later does not matter.
"""

from __future__ import annotations

import ipaddress
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from errno import EACCES, EIO, EPERM, ETIMEDOUT
from functools import partial
from typing import Any

from microkernel.errors import KernelError, PermissionDenied
from microkernel.hosts._requests import Answer, RequestSocket
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

_PATIENCE = 60.0
_LOCAL_NAMES = ("localhost",)


class Broker(RequestSocket):
    """Connects, each time on a thread of its own."""

    what = "connection"

    def __init__(
        self, name: str, grants: Sequence[str], reactor: Reactor, malformed: Callable[[KernelError], object]
    ) -> None:
        super().__init__(reactor, malformed)
        self._name = name
        self._grants = [_parsed(grant) for grant in grants]

    def consider(self, data: bytes) -> None:
        number, host, port, seconds = _decode(data)
        if permits(self._grants, host, port):
            self.work(number, partial(attempt, host, port, min(seconds, _PATIENCE)))
            return
        what = f"{host[:100]}:{port}"
        refusal = PermissionDenied("MK0401", name=self._name, action="net", what=what, line=f'net = ["{what}"]')
        self.answer(number, EPERM, str(refusal))


def attempt(host: str, port: int, seconds: float) -> Answer:
    """Connect; what goes wrong is the answer."""
    try:
        return Answer(made=connected(host, port, time.monotonic() + seconds))
    except socket.gaierror as error:
        return Answer(error.errno or socket.EAI_FAIL, error.strerror or "")
    except TimeoutError:
        return Answer(ETIMEDOUT, os.strerror(ETIMEDOUT))
    except (OSError, ValueError) as error:  # of a name that can be none
        code = getattr(error, "errno", None) or EIO
        return Answer(code, getattr(error, "strerror", None) or str(error))


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
