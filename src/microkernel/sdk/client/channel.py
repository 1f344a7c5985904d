"""The port to the channel between an instance and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from microkernel.sdk.client.buffers import BlockMapper
from microkernel.wire.messages import DirectOffer, Message, Response


class ChannelClosed(Exception):
    """The kernel's end of the channel is closed."""


# The lane of the answer to a call on a direct channel.
DIRECT_LANE = -2


class DirectCalls(Protocol):
    """Serves direct channels, on which other instances call this one. Only on the instance's main thread."""

    def offer(self, message: DirectOffer, accepts: Callable[[str], bool] | None) -> None:
        """Accept a channel, or refuse it if ``accepts`` is None. Calls of methods that are not accepted are handed back
        to the kernel."""

    def confirm(self) -> None:
        """The kernel has handled everything that was sent before the last Ping."""


class Channel(Protocol):
    """Sends and receives. It releases the shared memory of a Response that comes after its request was abandoned."""

    @property
    def memory(self) -> BlockMapper | None:
        """Access to shared memory; None if there is none."""

    @property
    def direct(self) -> DirectCalls | None:
        """Serves direct channels; None if there can be none."""

    def receive(self, timeout: float | None) -> Sequence[Message]:
        """Return received messages; empty after ``timeout`` seconds. Only on the instance's main thread. Raises
        ChannelClosed."""

    def receive_control(self, timeout: float | None) -> Sequence[Message]:
        """Like ``receive``, while a handler runs: no calls from direct channels."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``receive`` has messages."""

    def send(self, message: Message) -> None:
        """Send a message. May wait for space, never for an answer."""

    def reply(self, reply: Response, lane: int) -> None:
        """Send the answer to an Invoke, on the lane that it names."""

    def request(self, id: int, message: Message, deadline: float) -> Response | None:
        """Send a message and wait on this thread for the Response with its id; None at the deadline (monotonic)."""

    def request_later(self, id: int, message: Message, answer: Callable[[Response], object]) -> Callable[[], None]:
        """Send a message without waiting; ``answer`` is called with the Response, on any thread.

        Return a function that forgets the request. Must be called on the thread of a running asyncio loop.
        """

    def request_ahead(self, id: int, message: Message, answer: Callable[[Response], object]) -> None:
        """Send a message together with the next one; ``answer`` is called with the Response as soon as any thread reads
        it."""

    def send_with_next(self, message: Message) -> None:
        """Send a message together with the next one, so that it costs no additional frame."""

    def read_available(self) -> None:
        """Handle the answers that have arrived, without waiting."""
