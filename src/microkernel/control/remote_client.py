"""A plugin at the client's end of the control socket: to the SDK's runtime this channel is its kernel."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from microkernel.control.stream_channel import StreamChannel
from microkernel.wire import messages
from microkernel.wire.failures import to_error
from microkernel.wire.messages import Load, Message, Response

# First id of this channel's own requests; the runtime's start at 1.
_OWN = 1 << 40
_NOT_FOR_THE_KERNEL = (messages.Started, messages.Stopped)
SHUTDOWN = "kernel.shutdown"


class RemoteClientChannel(StreamChannel):
    """Sends the life-cycle messages that the kernel sends to its own instances: Load, Start and, at the end, Stop.

    Registrations of ``__init__`` are sent to the kernel. When the plugin calls ``kernel.shutdown``, this client ends
    and not the kernel; when the kernel ends, the client is stopped.
    """

    def __init__(self, path: Path, load: Load) -> None:
        super().__init__(path, "console")
        self._ids = count(_OWN)
        self.failed: messages.Failed | None = None
        self.feed(load)

    def send(self, message: Message) -> None:
        if isinstance(message, messages.Loaded):
            for handler in message.handlers:
                super().send(messages.Subscribe(next(self._ids), handler))
            self.feed(messages.Start())
        elif isinstance(message, messages.Failed):
            self.failed = message
        elif isinstance(message, messages.Ping):
            self.feed(messages.Pong(message.id))  # the runtime wakes itself with it
        elif not isinstance(message, _NOT_FOR_THE_KERNEL):
            super().send(message)

    def ended(self) -> None:
        self.feed(messages.Stop())
        super().ended()

    def request_later(self, id: int, message: Message, answer: Callable[[Response], object]) -> Callable[[], None]:
        if isinstance(message, messages.Call) and message.target == SHUTDOWN:
            self.feed(messages.Stop())
            answer(Response(id))
            return lambda: None
        return super().request_later(id, message, answer)

    def failure(self) -> Exception | None:
        """Return why the plugin failed to start, or why it ended without being stopped."""
        if self.failed is None:
            return self.end
        return to_error(self.failed.failure, self.failed.phase)
