"""A plugin at the other end of the control socket: the SDK's runtime there takes this channel for a kernel's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from microkernel.control.channel import StreamChannel
from microkernel.wire import messages
from microkernel.wire.failures import to_error
from microkernel.wire.messages import Load, Message, Reply

_OWN = 1 << 40
"""Our own requests are numbered from here on, the runtime's from 1."""
_NOT_FOR_THE_KERNEL = (messages.Started, messages.Stopped)
SHUTDOWN = "kernel.shutdown"


class RemoteClientChannel(StreamChannel):
    """Leads the life that the kernel leads for its own instances: Load, Start and, at the end, Stop.

    What the plugin registers in ``__init__`` is subscribed at the kernel. Its ``kernel.shutdown`` ends the visitor, not
    the kernel; the kernel's end stops the visitor.
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
            self.feed(messages.Pong(message.id))  # the runtime rings itself by it
        elif not isinstance(message, _NOT_FOR_THE_KERNEL):
            super().send(message)

    def ended(self) -> None:
        self.feed(messages.Stop())
        super().ended()

    def request_later(self, id: int, message: Message, answer: Callable[[Reply], object]) -> Callable[[], None]:
        if isinstance(message, messages.Call) and message.target == SHUTDOWN:
            self.feed(messages.Stop())
            answer(Reply(id))
            return lambda: None
        return super().request_later(id, message, answer)

    def trouble(self) -> Exception | None:
        """Why the plugin did not come to be, or why it ended before it wanted to."""
        if self.failed is None:
            return self.end
        return to_error(self.failed.failure, self.failed.phase)
