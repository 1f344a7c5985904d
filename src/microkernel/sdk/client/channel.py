"""The instance's end of its channel to the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from microkernel.sdk.client.buffers import BlockMapper
from microkernel.wire.messages import Message, Reply


class ChannelClosed(Exception):
    """The kernel's end is gone."""


class Channel(Protocol):
    on_orphan_reply: Callable[[Reply], object]
    """Is given each Reply that nobody waits for any more."""

    @property
    def memory(self) -> BlockMapper | None:
        """Where blocks are reached that the kernel lends; None where it lends none."""

    def receive(self, timeout: float | None) -> Sequence[Message]:
        """What has come down; empty when the time is over. Only on the instance's main thread. Raises ChannelClosed."""

    def fileno(self) -> int:
        """Readable when ``receive`` has something."""

    def send(self, message: Message) -> None:
        """A message up. May wait for room, never for an answer."""

    def reply(self, reply: Reply, lane: int) -> None:
        """The answer to an Invoke, on the lane it named."""

    def request(self, id: int, message: Message, deadline: float) -> Reply | None:
        """A message up and the Reply to its id, waited for on this thread; None at the deadline (monotonic)."""

    def request_later(self, id: int, message: Message, answer: Callable[[Reply], object]) -> Callable[[], None]:
        """The same without waiting: ``answer`` is called on some thread. Returns what forgets the request. To be used
        on the thread of a running asyncio loop."""
