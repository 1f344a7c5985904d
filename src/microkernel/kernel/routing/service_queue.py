"""Calls to ``kernel.<method>``, on their way to the service."""

from __future__ import annotations

from collections.abc import Callable

from microkernel.wire.messages import Call, Response

Serve = Callable[[Call, Callable[[Response], object]], object]


class ServiceQueue:
    """Connects what enters the kernel with the service above it, which is built later.

    A call that comes before the service waits for it. ``put`` on any thread.
    """

    def __init__(self) -> None:
        self._consumers: list[Serve] = []
        self._waiting: list[tuple[Call, Callable[[Response], object]]] = []

    def consume(self, serve: Serve) -> None:
        """Pass every call on to ``serve``, which does not wait. Once, before the first plugin starts."""
        self._consumers.append(serve)
        while self._waiting:
            serve(*self._waiting.pop(0))

    def put(self, call: Call, answer: Callable[[Response], object]) -> None:
        """Raises MethodNotFound, and KernelError where no thread can be started; all else is in the answer."""
        if not self._consumers:
            self._waiting.append((call, answer))
        for serve in self._consumers:
            serve(call, answer)
