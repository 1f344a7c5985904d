"""``socket.getaddrinfo`` for sandboxes and guests, where the kernel resolves names: addresses that contain the name."""

from __future__ import annotations

import socket
from typing import Any

_SERVICES = {"http": 80, "https": 443, "ftp": 21, "smtp": 25, "domain": 53}


def addresses(
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: ARG001
    proto: int = 0,  # noqa: ARG001
    flags: int = 0,  # noqa: ARG001
) -> list[Any]:
    """Replacement for ``socket.getaddrinfo``. Returns an address that contains the name, which is resolved when it is
    connected to."""
    name = host.decode() if isinstance(host, bytes) else host or "localhost"
    number = _SERVICES.get(port, port) if isinstance(port, str) else port
    kind = family or (socket.AF_INET6 if ":" in name else socket.AF_INET)
    address = (name, int(number or 0), 0, 0) if kind == socket.AF_INET6 else (name, int(number or 0))
    return [(socket.AddressFamily(kind), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]
