"""Socket pairs whose other end a worker gets."""

from __future__ import annotations

import fcntl
import os
import socket

_FIRST_FREE = 3


def blocking_pair() -> tuple[socket.socket, socket.socket]:
    """A pair of SEQPACKET sockets, both blocking. ``socket.setdefaulttimeout`` of the program would make them
    non-blocking, and that is a property of the socket itself, which the worker would share."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(True)
    return pair


def above_standard_streams(descriptor: int) -> int:
    """A copy of this descriptor from 3 on; it takes the place of the given one. In a program that has closed its
    standard streams a descriptor may have one of their numbers, and would be replaced by the child's own stream."""
    if descriptor >= _FIRST_FREE:
        return descriptor
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    os.close(descriptor)
    return copy
