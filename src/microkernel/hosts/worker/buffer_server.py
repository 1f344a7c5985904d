"""Send a worker descriptors: of the memory blocks that its instance was lent or sent, and of direct channels."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from microkernel.errors import InvalidArguments, KernelError, ProtocolError
from microkernel.hosts.worker.socket_pairs import blocking_pair, send_with_descriptors
from microkernel.kernel.ports import InstanceEvents, Reactor
from microkernel.wire import codec

_MAX_REQUEST = 64


class BufferServer:
    """Serves one worker. On the reactor's thread. ``worker_end`` is the worker's end of the socket."""

    def __init__(self, reactor: Reactor, events: InstanceEvents, malformed: Callable[[KernelError], object]) -> None:
        self._reactor = reactor
        self._events = events
        self._malformed = malformed
        self._end, self.worker_end = blocking_pair()

    def open(self) -> None:
        self._reactor.watch(self._end.fileno(), self._read)

    def close(self) -> None:
        self._reactor.unwatch(self._end.fileno())
        self._end.close()

    def discard(self) -> None:
        """Close both ends of a server that was never opened, because there is no worker."""
        self._end.close()
        self.worker_end.close()

    def push(self, number: int, *descriptors: int) -> bool:
        """Send what belongs to the direct channel ``number``, unrequested. Return False if that is impossible."""
        try:
            send_with_descriptors(self._end, codec.encode([-number, True]), descriptors)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        try:
            data = self._end.recv(_MAX_REQUEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reactor.unwatch(self._end.fileno())
            return
        try:
            block = codec.decode(data, int)
        except InvalidArguments as failure:
            self._reactor.unwatch(self._end.fileno())
            self._malformed(ProtocolError("MK0215", reason=f"not the number of a block: {failure.text}"))
            return
        try:
            self._answer(block, *self._events.descriptor(block))
        except (KernelError, OSError):
            self._send(block, False)

    def _answer(self, block: int, descriptor: int, may_write: bool) -> None:
        if may_write:
            self._send(block, True, descriptor)
            return
        reading = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._send(block, False, reading)
        finally:
            os.close(reading)

    def _send(self, block: int, may_write: bool, *descriptors: int) -> None:
        """Send without waiting: a worker that asks for many blocks and does not read loses answers."""
        with suppress(OSError):
            send_with_descriptors(self._end, codec.encode([block, may_write]), descriptors)
