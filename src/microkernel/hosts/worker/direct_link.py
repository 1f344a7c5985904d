"""The socket pair of a direct channel between two workers. The kernel keeps the callee's end, to close the channel."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from mmap import PAGESIZE, mmap

from microkernel.errors import ProtocolError
from microkernel.hosts.worker.socket_pairs import blocking_pair, refuse_descriptors
from microkernel.wire import frames
from microkernel.wire.direct import pack_direct, read_call
from microkernel.wire.messages import DirectCall, Response

_NO_PAGE = memoryview(bytearray(8)).cast("I")


def waiting_page() -> tuple[int, memoryview]:
    """Return a page of memory to share with a worker, as a descriptor and a view. Raises OSError.

    Its size is sealed: if the worker could make it smaller, the kernel would be killed at its next access.
    """
    descriptor = os.memfd_create("microkernel-waiting", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, PAGESIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor, memoryview(mmap(descriptor, PAGESIZE)).cast("I")
    except BaseException:
        os.close(descriptor)
        raise


class DirectLink:
    """A ``ports.DirectLink``. On the reactor's thread. Raises OSError if there are too few descriptors."""

    def __init__(self, waiting: memoryview) -> None:
        self.waiting = waiting
        self.callee_end, self.caller_end = blocking_pair()
        refuse_descriptors(self.caller_end)

    def close(self, *, cancel: bool) -> list[DirectCall]:
        """Close the channel, and return the calls that the callee has not received.

        The system accepts no datagram after the shutdown, so no call is lost: the callee has received it, or it is
        returned here. Its caller is notified to wait for the kernel's answer. The callee can still answer a call that
        it has received, unless ``cancel``.
        """
        with suppress(OSError):  # the callee has closed it
            self.callee_end.shutdown(socket.SHUT_RDWR if cancel else socket.SHUT_RD)
        calls: list[DirectCall] = []
        while data := self._receive():
            with suppress(ProtocolError):  # not from our code: its caller waits until its deadline
                calls.append(read_call(data))
        for call in calls:
            with suppress(OSError):  # the caller reads nothing, or is gone
                self.callee_end.send(
                    pack_direct(Response(call.id, elsewhere=True)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                )
        self.callee_end.close()
        self.caller_end.close()
        self.waiting = _NO_PAGE  # the caller may use the channel for long after the callee has ended
        return calls

    def _receive(self) -> bytes:
        try:
            return self.callee_end.recv(frames.DATAGRAM, socket.MSG_DONTWAIT)
        except OSError:
            return b""
