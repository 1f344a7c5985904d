"""An event loop for a guest: it waits for the channel's two sources and for connections, as others for descriptors."""

from __future__ import annotations

import asyncio
import socket
from asyncio import events
from asyncio.selector_events import BaseSelectorEventLoop
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey, _BaseSelectorImpl
from typing import Any

from microkernel.guest.channel import SOURCES, GuestChannel


class GuestSelector(_BaseSelectorImpl):
    """Its descriptors are the channel's sources, and the numbers of connections."""

    def __init__(self, channel: GuestChannel) -> None:
        super().__init__()
        self._channel = channel

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        keys = {key.fd: key for key in self.get_map().values()}
        wait = None if timeout is None else max(0.0, timeout)
        reading, writing = (self._connections(event) for event in (EVENT_READ, EVENT_WRITE))
        wanted = sum(keys.keys() & {*SOURCES})
        if reading or writing:
            ready, readable, writable = self._channel.wait_beside(wanted, reading, writing, wait)
        else:
            ready, readable, writable = self._channel.wait(wanted, wait), [], []
        readable += [source for source in SOURCES if source & ready]
        found = [*((number, EVENT_READ) for number in readable), *((number, EVENT_WRITE) for number in writable)]
        return [(keys[number], event) for number, event in found]

    def _connections(self, event: int) -> list[int]:
        return [key.fd for key in self.get_map().values() if key.events & event and key.fd not in SOURCES]


class GuestLoop(BaseSelectorEventLoop):
    """There are no threads, processes and signals; what needs them says so."""

    def __init__(self, channel: GuestChannel) -> None:
        super().__init__(GuestSelector(channel))

    async def getaddrinfo(self, host: Any, port: Any, **how: int) -> list[Any]:
        """Nothing is looked up here, so nobody has to wait in a thread."""
        return socket.getaddrinfo(host, port, **how)

    async def create_connection(self, *where: Any, ssl: Any = None, **how: Any) -> Any:
        if ssl:
            raise NotImplementedError("the level wasm has TLS for http.client and urllib.request, and none for asyncio")
        return await super().create_connection(*where, **how)

    # There is nobody who could wake it from elsewhere.

    def _make_self_pipe(self) -> None: ...

    def _close_self_pipe(self) -> None: ...

    def _write_to_self(self) -> None: ...


def install(channel: GuestChannel) -> None:
    """Every event loop of this guest is one of these from now on."""
    events.new_event_loop = asyncio.new_event_loop = lambda: GuestLoop(channel)
