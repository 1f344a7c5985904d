"""The client's end of the control socket: a channel for the SDK."""

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
from microkernel.wire.messages import Message, Response
from microkernel.wire.session import Session, pack

_READ = 256 * 1024
# Seconds that a kernel may take to send its Hello. It needs microseconds unless its process is stopped.
_HELLO_TIMEOUT = 5.0


class StreamChannel:
    """A ``sdk.client.channel.Channel`` over a stream socket. A thread reads, and passes each Response to its request.

    Raises KernelError if no kernel answers, ProtocolError if it refuses this client.
    """

    direct = None

    def __init__(self, path: Path, role: str) -> None:
        self._connection = dial(path)
        self._session = Session(role)
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: dict[int, Callable[[Response], object]] = {}
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._writing = threading.Lock()
        # Why no more messages will arrive; None until the connection has ended.
        self.end: KernelError | None = None
        try:
            self._handshake(path)
        except BaseException:
            self._connection.close()
            os.close(self._wakeup)
            raise
        self._reader = threading.Thread(target=self._read, name="control-reader", daemon=True)
        self._reader.start()

    def _handshake(self, path: Path) -> None:
        self._connection.settimeout(_HELLO_TIMEOUT)
        with suppress(OSError):  # rejected before it was read; the reason is read below
            self._connection.sendall(self._session.hello())
        try:
            while self._session.peer is None:
                self._handle_data(self._connection.recv(_READ))
        except (OSError, ChannelClosed):
            raise KernelError("MK0701", path=str(path)) from None
        self._connection.settimeout(None)

    @property
    def kernel(self) -> str:
        """The name of the kernel at the other end."""
        return self._session.peer.name if self._session.peer else ""

    def close(self) -> None:
        with suppress(OSError):  # the kernel closed it first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()
        os.close(self._wakeup)

    # Receiving

    def feed(self, message: Message | None) -> None:
        """Queue a message for ``receive``; None is the end."""
        self._inbox.put(message)
        os.eventfd_write(self._wakeup, 1)

    def ended(self) -> None:
        """Queue the end: no more messages will arrive."""
        self.feed(None)

    def _read(self) -> None:
        end: KernelError = KernelClosed("MK0612", reason="it has stopped")
        try:
            while True:
                self._handle_data(self._connection.recv(_READ))
        except ProtocolError as error:
            end = error
        except (OSError, ChannelClosed):
            pass  # the kernel has ended the connection, or this client has
        self.end = end
        for id in list(self._answers):
            self._answer(Response(id, failure=from_error(end)))
        self.ended()

    def _handle_data(self, data: bytes) -> None:
        if not data:
            raise ChannelClosed
        for message in self._session.receive(data):
            if isinstance(message, messages.Refuse):
                raise ProtocolError(message.id, **message.fields)
            if isinstance(message, Response):
                self._answer(message)
            else:
                self.feed(message)

    def _answer(self, reply: Response) -> None:
        answer = self._answers.pop(reply.id, None)
        if answer is not None:
            answer(reply)

    # Channel

    memory = None

    def fileno(self) -> int:
        return self._wakeup

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
            self.feed(None)  # for the next call
            if not came:
                raise ChannelClosed
        return came

    def receive_control(self, timeout: float | None) -> Sequence[Message]:
        return self.receive(timeout)

    def _reset_wakeup(self) -> None:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return

    def send(self, message: Message) -> None:
        """Send a message. Does nothing if the kernel is gone; the reader reports that."""
        try:
            with self._writing:
                self._connection.sendall(pack([message]))
        except OSError:
            return  # the reader sees the end too

    def reply(self, reply: Response, lane: int) -> None:  # noqa: ARG002 - there is only one way to the kernel
        self.send(reply)

    def request(self, id: int, message: Message, deadline: float) -> Response | None:
        answered: queue.SimpleQueue[Response] = queue.SimpleQueue()
        forget = self.request_later(id, message, answered.put)
        try:
            return answered.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        finally:
            forget()

    def request_ahead(self, id: int, message: Message, answer: Callable[[Response], object]) -> None:
        self.request_later(id, message, answer)

    def send_with_next(self, message: Message) -> None:
        self.send(message)

    def read_available(self) -> None:
        """Do nothing, because a separate thread reads."""

    def request_later(self, id: int, message: Message, answer: Callable[[Response], object]) -> Callable[[], None]:
        self._answers[id] = answer
        self.send(message)
        if self.end is not None:
            self._answer(Response(id, failure=from_error(self.end)))
        return lambda: _forget(self._answers, id)


def _forget(answers: dict[int, Callable[[Response], object]], id: int) -> None:
    answers.pop(id, None)
