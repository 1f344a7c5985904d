"""``async`` handlers of the embedding program: they run on its event loop, one at a time like other handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any

from microkernel.errors import ConfigError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future


def running_loop(handler: str, *, inline: bool) -> asyncio.AbstractEventLoop:
    """Return the event loop running on this thread. Raises ConfigError MK0628 if an ``async`` handler cannot run."""
    import asyncio  # a program without async handlers does not load it

    if inline:
        raise ConfigError("MK0628", handler=handler, reason="an inline handler runs on the thread that emits")
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError("MK0628", handler=handler, reason="no event loop is running on this thread") from None


class CoroutineRunner:
    """Wraps coroutine functions as plain functions. Used by one thread, which waits for each coroutine; ``close`` is
    called on another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: tuple[asyncio.AbstractEventLoop, Future[Any]] | None = None
        self._blocked: asyncio.AbstractEventLoop | None = None
        self._is_used = False

    def wrap(
        self, function: Callable[..., Coroutine[Any, Any, Any]], loop: asyncio.AbstractEventLoop
    ) -> Callable[..., Any]:
        """Return a function that runs the coroutine on ``loop`` and waits for its value."""

        self._is_used = True

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return self._run(function(*args, **kwargs), loop)

        return run

    def close(self) -> None:
        """Cancel the running coroutine and all later ones, if their loop is blocked because this thread is waiting for
        them."""
        if not self._is_used:
            return
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        with self._lock:
            self._blocked = loop
            if self._current is not None and self._current[0] is loop:
                self._current[1].cancel()

    def _run(self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Any:
        import asyncio

        with self._lock:
            if loop.is_closed() or loop is self._blocked:
                coroutine.close()
                raise RuntimeError("its event loop does not run any more")
            try:
                future = asyncio.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError:  # the loop was closed just now
                coroutine.close()
                raise
            self._current = loop, future
        try:
            return self._await(future, loop)
        finally:
            self._current = None
            if loop.is_closed():  # it may have been closed before the coroutine started
                coroutine.close()

    def _await(self, future: Future[Any], loop: asyncio.AbstractEventLoop) -> Any:
        """Wait for a future. Checks whether the loop was closed, because then the future is never completed."""
        while True:
            try:
                return future.result(_POLL_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                if loop.is_closed():
                    raise RuntimeError("its event loop was closed") from None


# Seconds between two checks of whether the loop is closed.
_POLL_SECONDS = 1.0
