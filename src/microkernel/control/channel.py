"""A visitor's end of the control socket: the channel that the SDK runs over."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from microkernel.control.paths import dial
from microkernel.errors import KernelClosed, KernelError, ProtocolError
from microkernel.sdk.client.channel import ChannelClosed
from microkernel.wire import messages
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Message, Reply
from microkernel.wire.session import Session, pack

_READ = 256 * 1024
_HELLO_TIMEOUT = 5.0
"""Seconds a kernel may take to say hello. It does so in microseconds, or it is stopped."""


class StreamChannel:
    """A ``sdk.channel.Channel`` over a connection. A thread reads; a Reply finds who waits for it.

    Raises KernelError where no kernel answers, ProtocolError where it does not want us.
    """

    def __init__(self, path: Path, role: str) -> None:
        self._connection = dial(path)
        self._session = Session(role)
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: dict[int, Callable[[Reply], object]] = {}
        self.on_orphan_reply: Callable[[Reply], object]
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._writing = threading.Lock()
        self.end: KernelError | None = None
        """Why nothing comes any more, once that is so."""
        try:
            self._handshake(path)
        except BaseException:
            self._connection.close()
            os.close(self._bell)
            raise
        self._reader = threading.Thread(target=self._read, name="control-reader", daemon=True)
        self._reader.start()

    def _handshake(self, path: Path) -> None:
        self._connection.settimeout(_HELLO_TIMEOUT)
        with suppress(OSError):  # turned away before it was read: why, is to be read now
            self._connection.sendall(self._session.hello())
        try:
            while self._session.peer is None:
                self._take(self._connection.recv(_READ))
        except (OSError, ChannelClosed):
            raise KernelError("MK0701", path=str(path)) from None
        self._connection.settimeout(None)

    @property
    def kernel(self) -> str:
        """The name of the kernel at the other end."""
        return self._session.peer.name if self._session.peer else ""

    def close(self) -> None:
        with suppress(OSError):  # the kernel was faster
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()
        os.close(self._bell)

    # What comes

    def feed(self, message: Message | None) -> None:
        """Something to receive; None for the end."""
        self._inbox.put(message)
        os.eventfd_write(self._bell, 1)

    def ended(self) -> None:
        """Nothing more will come."""
        self.feed(None)

    def _read(self) -> None:
        end: KernelError = KernelClosed("MK0612", reason="it has stopped")
        try:
            while True:
                self._take(self._connection.recv(_READ))
        except ProtocolError as error:
            end = error
        except (OSError, ChannelClosed):
            pass  # it has ended, or we have
        self.end = end
        for id in list(self._answers):
            self._answer(Reply(id, failure=from_error(end)))
        self.ended()

    def _take(self, data: bytes) -> None:
        if not data:
            raise ChannelClosed
        for message in self._session.receive(data):
            if isinstance(message, messages.Refuse):
                raise ProtocolError(message.id, **message.fields)
            if isinstance(message, Reply):
                self._answer(message)
            else:
                self.feed(message)

    def _answer(self, reply: Reply) -> None:
        answer = self._answers.pop(reply.id, None)
        if answer is not None:
            answer(reply)

    # Channel

    memory = None

    def fileno(self) -> int:
        return self._bell

    def receive(self, timeout: float | None) -> Sequence[Message]:
        self._reset_wakeup()
        received: list[Message | None] = []
        try:
            received.append(self._inbox.get(timeout=timeout))
            while True:
                received.append(self._inbox.get_nowait())
        except queue.Empty:
            came = [message for message in received if message is not None]
        if len(came) < len(received):
            self.feed(None)  # for the next time
            if not came:
                raise ChannelClosed
        return came

    def _reset_wakeup(self) -> None:
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
            return  # the reader sees the end too

    def reply(self, reply: Reply, lane: int) -> None:  # noqa: ARG002 - there is but one way up
        self.send(reply)

    def request(self, id: int, message: Message, deadline: float) -> Reply | None:
        answered: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        forget = self.request_later(id, message, answered.put)
        try:
            return answered.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        finally:
            forget()

    def request_later(self, id: int, message: Message, answer: Callable[[Reply], object]) -> Callable[[], None]:
        self._answers[id] = answer
        self.send(message)
        if self.end is not None:
            self._answer(Reply(id, failure=from_error(self.end)))
        return lambda: _forget(self._answers, id)


def _forget(answers: dict[int, Callable[[Reply], object]], id: int) -> None:
    answers.pop(id, None)
