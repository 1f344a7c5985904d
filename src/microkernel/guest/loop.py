"""An event loop for a guest: it waits for the channel's two sources, as others wait for descriptors."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from typing import Any

from microkernel.guest.channel import GuestChannel


class GuestLoop(asyncio.BaseEventLoop):
    """There are no threads, processes, signals and sockets; what needs them raises NotImplementedError."""

    def __init__(self, channel: GuestChannel) -> None:
        super().__init__()
        self._channel = channel
        self._readers: dict[int, events.Handle] = {}
        self._selector = self

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        self._readers[fd] = events.Handle(callback, args, self)

    def remove_reader(self, fd: Any) -> bool:
        handle = self._readers.pop(fd, None)
        if handle is not None:
            handle.cancel()
        return handle is not None

    def select(self, timeout: float | None) -> int:
        """For ``BaseEventLoop``: the sources that have something."""
        return self._channel.wait(sum(self._readers), timeout)

    def _process_events(self, ready: int) -> None:
        self._ready.extend(handle for source, handle in self._readers.items() if source & ready)

    def _write_to_self(self) -> None:
        """There is nobody who could be waiting elsewhere."""


def install(channel: GuestChannel) -> None:
    """Every event loop of this guest is one of these from now on."""
    events.new_event_loop = asyncio.new_event_loop = lambda: GuestLoop(channel)
