"""Events of the kernel as an asynchronous iterator, for asyncio programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from weakref import finalize, ref

from microkernel.embedder.coroutines import running_loop
from microkernel.sdk.event import Event


class EventStream:
    """Events in their order. Read by one task; ``dropped`` counts those that were replaced before they were read."""

    def __init__(self, pattern: str, size: int) -> None:
        """Raises ValueError unless ``size`` is at least 1, and ConfigError MK0628 without a running event loop."""
        import asyncio  # a program without a loop does not load it

        if size < 1:
            raise ValueError(f"size must be at least 1, got {size!r}")
        self._loop = running_loop(f"events({pattern!r})", inline=False)
        self._waiting: deque[Event] = deque(maxlen=size)
        self._arrived = asyncio.Event()
        self._has_ended = False
        self._cancel: Callable[[], object] = int
        self._at_end: finalize[[Callable[[], object]], EventStream] | None = None
        self.dropped = 0

    def handler(self) -> Callable[[Event], None]:
        """Return the function that puts an event in. It does not keep the stream alive."""
        stream = ref(self)

        def receive(event: Event) -> None:
            if (found := stream()) is not None:
                found._put(event)

        return receive

    def end_by(self, cancel: Callable[[], object], post: Callable[[Callable[[], object]], object]) -> None:
        """Call ``cancel`` when the stream is cancelled.

        When it is deleted, call it by ``post``, which never waits: objects are deleted on any thread, at any time.
        """
        self._cancel = cancel
        self._at_end = at_end = finalize(self, post, cancel)
        at_end.atexit = False

    def end(self) -> None:
        """End the stream, because the kernel closes: events that wait can still be read. On any thread, idempotent."""
        self._has_ended = True
        if self._at_end is not None:
            self._at_end.detach()
        self._wake()

    def _put(self, event: Event) -> None:
        self.dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(event)
        self._wake()

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._arrived.clear()
            if not self._waiting and not self._has_ended:  # what came since then sets it again
                await self._arrived.wait()
        return self._waiting.popleft()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the subscription and drop the events that wait."""
        if not self._has_ended:
            self._cancel()
        self.end()
        self._waiting.clear()
