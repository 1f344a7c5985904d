"""Calls to ``kernel.<method>``, on their way to the service."""

from __future__ import annotations

from collections.abc import Callable

from microkernel.wire.messages import Call, Response

Serve = Callable[[Call, Callable[[Response], object]], object]


class ServiceQueue:
    """Passes calls from the router to the service above it, which is created later.

    A call that arrives before the service waits for it. ``put`` may be called on any thread.
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
        """Pass a call to the service.

        Raises MethodNotFound, and KernelError if no thread can be started; other errors are in the answer.
        """
        if not self._consumers:
            self._waiting.append((call, answer))
        for serve in self._consumers:
            serve(call, answer)
