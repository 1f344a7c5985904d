"""Connect to granted hosts on behalf of a confined worker, and pass the connection to it.

The worker names a host and a port. The grant is checked here, the name is resolved here, and the connection goes to an
address that was checked here, so it does not matter what the name leads to later. ``hosts/confined/addresses.py``
defines which addresses are granted.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from errno import EIO, EPERM, ETIMEDOUT
from functools import partial

from microkernel.errors import KernelError, PermissionDenied
from microkernel.hosts.confined.addresses import Grant, leads_to, normalize, parse_grant, permits
from microkernel.hosts.confined.request_socket import Answer, RequestSocket
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

_MAX_SECONDS = 60.0


class NetworkBroker(RequestSocket):
    """Connects on behalf of one worker, each time on a separate thread."""

    what = "connection"

    def __init__(
        self, name: str, grants: Sequence[str], reactor: Reactor, malformed: Callable[[KernelError], object]
    ) -> None:
        super().__init__(reactor, malformed)
        self._name = name
        self._grants = [parse_grant(grant) for grant in grants]

    def handle_request(self, data: bytes) -> None:
        number, host, port, seconds = _decode(data)
        if permits(self._grants, host, port):
            self.work(number, partial(self._attempt, host, port, min(seconds, _MAX_SECONDS)))
            return
        what = f"{host[:100]}:{port}"
        refusal = PermissionDenied("MK0401", name=self._name, action="net", what=what, line=f'net = ["{what}"]')
        self.answer(number, EPERM, str(refusal))

    def _attempt(self, host: str, port: int, seconds: float) -> Answer:
        """Connect. A failure is returned as the answer."""
        try:
            return Answer(connection=_connect(self._grants, host, port, time.monotonic() + seconds))
        except _NotGranted as error:
            return Answer(EPERM, str(self._refusal(host, port, error.address)))
        except socket.gaierror as error:
            return Answer(error.errno or socket.EAI_FAIL, error.strerror or "")
        except TimeoutError:
            return Answer(ETIMEDOUT, os.strerror(ETIMEDOUT))
        except (OSError, ValueError) as error:  # ValueError: not a valid name
            code = getattr(error, "errno", None) or EIO
            return Answer(code, getattr(error, "strerror", None) or str(error))

    def _refusal(self, host: str, port: int, address: str) -> PermissionDenied:
        what, number = f"{host[:100]}:{port}", f"[{address}]" if ":" in address else address
        line = f'net = ["{what}", "{number}:{port}"]'
        return PermissionDenied("MK0423", name=self._name, what=what, address=address, line=line)


def _decode(data: bytes) -> tuple[int, str, int, float]:
    request: tuple[int, str, int, float] = codec.decode(data, tuple[int, str, int, float])
    if not (0 < request[2] < 65536 and 0.0 <= request[3] < math.inf):
        raise ValueError("no port, or no time")
    return request


class _NotGranted(PermissionError):
    """A granted name leads to an address that the grant does not cover."""

    def __init__(self, address: str) -> None:
        super().__init__(EPERM, address)
        self.address = address


def _connect(grants: Sequence[Grant], host: str, port: int, deadline: float) -> socket.socket:
    """Resolve the name once, and connect to an address that was checked.

    Raises OSError, gaierror, TimeoutError, _NotGranted.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(normalize(host), port, type=socket.SOCK_STREAM):
        if not leads_to(grants, host, str(address[0]), port):
            failure = failure or _NotGranted(str(address[0]))
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect(address)
            connection.setblocking(True)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or OSError(EIO, f"{host} has no address")
