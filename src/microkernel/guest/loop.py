"""An event loop for a guest: it waits for the channel's two sources and for connections, instead of descriptors."""

from __future__ import annotations

import socket
from asyncio import AbstractEventLoop
from functools import lru_cache
from importlib import import_module
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey, _BaseSelectorImpl
from typing import Any

from microkernel.guest.guest_channel import SOURCES, GuestChannel


class GuestSelector(_BaseSelectorImpl):
    """A selector whose descriptors are the channel's sources and the numbers of connections."""

    def __init__(self, channel: GuestChannel) -> None:
        super().__init__()
        self._channel = channel

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        keys = {key.fd: key for key in self.get_map().values()}
        wait = None if timeout is None else max(0.0, timeout)
        reading, writing = (self._connections(event) for event in (EVENT_READ, EVENT_WRITE))
        sources = sum(keys.keys() & {*SOURCES})
        if reading or writing:
            ready, readable, writable = self._channel.wait_beside(sources, reading, writing, wait)
        else:
            ready, readable, writable = self._channel.wait(sources, wait), [], []
        readable += [source for source in SOURCES if source & ready]
        found = [*((number, EVENT_READ) for number in readable), *((number, EVENT_WRITE) for number in writable)]
        return [(keys[number], event) for number, event in found]

    def _connections(self, event: int) -> list[int]:
        return [key.fd for key in self.get_map().values() if key.events & event and key.fd not in SOURCES]


class _GuestLoop:
    """Base of the guest's event loops, before ``BaseSelectorEventLoop``. Methods that need threads, processes or
    signals raise."""

    async def getaddrinfo(self, host: Any, port: Any, **how: int) -> list[Any]:
        """Return the address without a thread, because the kernel resolves the name later."""
        return socket.getaddrinfo(host, port, **how)

    async def create_connection(self, *where: Any, ssl: Any = None, **how: Any) -> Any:
        if ssl:
            raise NotImplementedError("the level wasm has TLS for http.client and urllib.request, and none for asyncio")
        return await super().create_connection(*where, **how)  # type: ignore[misc] # the other base has it

    # No other thread exists that could wake the loop.

    def _make_self_pipe(self) -> None: ...

    def _close_self_pipe(self) -> None: ...

    def _write_to_self(self) -> None: ...


_channel: GuestChannel


def wait_by(channel: GuestChannel) -> None:
    """Set the channel. Call it before the first event loop is created."""
    global _channel
    _channel = channel


def shim(module: Any) -> None:
    """Patch ``asyncio`` and ``asyncio.events``, so that every event loop of a guest is a GuestLoop."""
    module.new_event_loop = _new_event_loop


def _new_event_loop() -> AbstractEventLoop:
    loop: AbstractEventLoop = _loop_type(import_module("asyncio.selector_events"))(GuestSelector(_channel))
    return loop


@lru_cache(maxsize=1)
def _loop_type(module: Any) -> Any:
    """Return the loop class for the current asyncio module, which the program may have imported again."""
    return type("GuestLoop", (_GuestLoop, module.BaseSelectorEventLoop), {})
