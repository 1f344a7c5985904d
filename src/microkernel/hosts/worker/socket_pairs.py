"""Socket pairs between the kernel and a worker."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

_FIRST_FREE = 3
_SO_PASSRIGHTS = 83


def blocking_pair(*, takes_descriptors: bool = False) -> tuple[socket.socket, socket.socket]:
    """Return a pair of SEQPACKET sockets, both blocking; the kernel's end is the first.

    ``socket.setdefaulttimeout`` of the program would make them non-blocking, which is a property of the socket itself,
    so the worker would share it. Unless ``takes_descriptors``, no descriptors can be sent to the kernel's end.
    """
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(True)
    if not takes_descriptors:
        refuse_descriptors(pair[0])
    return pair


def refuse_descriptors(end: socket.socket) -> None:
    """Have the system refuse a message with descriptors to this end, where it can (Linux 6.16).

    A receiver closes the descriptors that it drops. The last close of a lingering connection takes as long as its
    sender likes.
    """
    with suppress(OSError):  # an older system, where seccomp refuses it to confined workers
        end.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def send_with_descriptors(end: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """Send a datagram with these descriptors, or with none. Raises BlockingIOError instead of waiting, and OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([data], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def above_standard_streams(descriptor: int) -> int:
    """Return a copy of this descriptor, numbered 3 or higher; the given one is closed.

    If a program has closed its standard streams, a descriptor may have one of their numbers, and a child's own stream
    would replace it.
    """
    if descriptor >= _FIRST_FREE:
        return descriptor
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    os.close(descriptor)
    return copy
