"""Connects for a confined worker to what it was granted, and passes the connection to it.

The worker names a host and a port; the grant is looked up here, the name is resolved here, and what is connected is an
address that was checked here: what a name means a moment later does not matter. Which addresses are granted:
``hosts/confined/addresses.py``.
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
from microkernel.hosts.confined.addresses import Grant, leads_to, parsed, permits, plain
from microkernel.hosts.confined.request_socket import Answer, RequestSocket
from microkernel.kernel.ports import Reactor
from microkernel.wire import codec

_PATIENCE = 60.0


class NetworkBroker(RequestSocket):
    """Connects, each time on a thread of its own."""

    what = "connection"

    def __init__(
        self, name: str, grants: Sequence[str], reactor: Reactor, malformed: Callable[[KernelError], object]
    ) -> None:
        super().__init__(reactor, malformed)
        self._name = name
        self._grants = [parsed(grant) for grant in grants]

    def consider(self, data: bytes) -> None:
        number, host, port, seconds = _decode(data)
        if permits(self._grants, host, port):
            self.work(number, partial(self._attempt, host, port, min(seconds, _PATIENCE)))
            return
        what = f"{host[:100]}:{port}"
        refusal = PermissionDenied("MK0401", name=self._name, action="net", what=what, line=f'net = ["{what}"]')
        self.answer(number, EPERM, str(refusal))

    def _attempt(self, host: str, port: int, seconds: float) -> Answer:
        """Connect; what goes wrong is the answer."""
        try:
            return Answer(made=_connected(self._grants, host, port, time.monotonic() + seconds))
        except _Elsewhere as error:
            return Answer(EPERM, str(self._leads_elsewhere(host, port, error.address)))
        except socket.gaierror as error:
            return Answer(error.errno or socket.EAI_FAIL, error.strerror or "")
        except TimeoutError:
            return Answer(ETIMEDOUT, os.strerror(ETIMEDOUT))
        except (OSError, ValueError) as error:  # of a name that can be none
            code = getattr(error, "errno", None) or EIO
            return Answer(code, getattr(error, "strerror", None) or str(error))

    def _leads_elsewhere(self, host: str, port: int, address: str) -> PermissionDenied:
        what, number = f"{host[:100]}:{port}", f"[{address}]" if ":" in address else address
        line = f'net = ["{what}", "{number}:{port}"]'
        return PermissionDenied("MK0423", name=self._name, what=what, address=address, line=line)


def _decode(data: bytes) -> tuple[int, str, int, float]:
    request: tuple[int, str, int, float] = codec.decode(data, tuple[int, str, int, float])
    if not (0 < request[2] < 65536 and 0.0 <= request[3] < math.inf):
        raise ValueError("no port, or no time")
    return request


class _Elsewhere(PermissionError):
    """A granted name that leads to an address which the grant is not for."""

    def __init__(self, address: str) -> None:
        super().__init__(EPERM, address)
        self.address = address


def _connected(grants: Sequence[Grant], host: str, port: int, deadline: float) -> socket.socket:
    """The name is looked up once, and what is connected to is what was checked.

    Raises OSError, gaierror, TimeoutError, _Elsewhere.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(plain(host), port, type=socket.SOCK_STREAM):
        if not leads_to(grants, host, str(address[0]), port):
            failure = failure or _Elsewhere(str(address[0]))
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
    raise failure or OSError(EIO, f"{host} has no address")
