"""A guest's end of the control socket: the channel that the SDK runs over."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from microkernel.control.paths import dial
from microkernel.errors import KernelClosed, KernelError, ProtocolError
from microkernel.sdk.channel import ChannelClosed
from microkernel.wire import messages
from microkernel.wire.messages import Message, Reply
from microkernel.wire.session import Session, pack

_READ = 256 * 1024
_WELCOME = 5.0
"""Seconds a kernel may take to say hello. It does so in microseconds, or it is stopped."""


class StreamChannel:
    """A ``sdk.channel.Channel`` over a connection. A thread reads; a Reply finds who waits for it.

    Raises KernelError where no kernel answers, ProtocolError where it does not want us.
    """

    def __init__(self, path: Path, role: str) -> None:
        self._connection = dial(path)
        self._session = Session(role)
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: dict[int, Callable[[Reply | None], object]] = {}
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._writing = threading.Lock()
        self.gone = False
        """The kernel's end is closed, or ours is."""
        self.refused: ProtocolError | None = None
        try:
            self._greet(path)
        except KernelError:
            self._connection.close()
            raise
        self._reader = threading.Thread(target=self._read, name="control-reader", daemon=True)
        self._reader.start()

    def _greet(self, path: Path) -> None:
        self._connection.settimeout(_WELCOME)
        try:
            self._connection.sendall(self._session.hello())
            while self._session.peer is None:
                self._take(self._connection.recv(_READ))
        except (OSError, ChannelClosed):
            raise KernelError("MK0701", path=str(path)) from None
        self._connection.settimeout(None)

    @property
    def kernel(self) -> str:
        """The name of the kernel at the other end."""
        return self._session.peer.name if self._session.peer else ""

    # What comes

    def _read(self) -> None:
        try:
            while True:
                self._take(self._connection.recv(_READ))
        except ProtocolError as error:
            self.refused = error
        except (OSError, ChannelClosed):
            pass  # it has ended, or we have
        self._end()

    def _take(self, data: bytes) -> None:
        if not data:
            raise ChannelClosed
        for message in self._session.receive(data):
            if isinstance(message, messages.Refuse):
                raise ProtocolError(message.id, **message.fields)
            if isinstance(message, Reply):
                self._answer(message)
            else:
                self.push(message)

    def _answer(self, reply: Reply) -> None:
        answer = self._answers.pop(reply.id, None)
        if answer is not None:
            answer(reply)

    def _end(self) -> None:
        self.gone = True
        for id in list(self._answers):
            answer = self._answers.pop(id, None)
            if answer is not None:
                answer(None)
        self.ended()

    def ended(self) -> None:
        """Nothing more will come."""
        self.push(None)

    def push(self, message: Message | None) -> None:
        """Something to receive."""
        self._inbox.put(message)
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        self.gone = True
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the kernel was faster
        self._reader.join()
        self._connection.close()
        os.close(self._bell)

    # Channel

    def fileno(self) -> int:
        return self._bell

    def receive(self, timeout: float | None) -> Sequence[Message]:
        received: list[Message] = []
        try:
            message = self._inbox.get(timeout=timeout)
            while True:
                if message is None:
                    self._inbox.put(None)
                    break
                received.append(message)
                message = self._inbox.get_nowait()
        except queue.Empty:
            self._quiet()
        if not received and message_ended(self._inbox, timeout):
            raise ChannelClosed
        return received

    def _quiet(self) -> None:
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return

    def send(self, message: Message) -> None:
        """Nothing happens where the kernel has gone: there is nobody to tell."""
        try:
            with self._writing:
                self._connection.sendall(pack([message]))
        except OSError:
            self.gone = True

    def reply(self, reply: Reply, lane: int) -> None:  # noqa: ARG002 - there is but one way up
        self.send(reply)

    def request(self, id: int, message: Message, deadline: float) -> Reply | None:
        """Raises KernelClosed if the kernel goes away meanwhile."""
        answered: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        forget = self.request_later(id, message, answered.put)
        try:
            reply = answered.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        finally:
            forget()
        if reply is None:
            raise self.refused or KernelClosed("MK0612", reason="it has stopped")
        return reply

    def request_later(
        self, id: int, message: Message, answer: Callable[[Reply], object]
    ) -> Callable[[], None]:
        self._answers[id] = answer  # type: ignore[assignment]
        self.send(message)
        if self.gone and (waiting := self._answers.pop(id, None)) is not None:
            waiting(None)
        return lambda: _forget(self._answers, id)
