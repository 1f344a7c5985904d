"""Calls of the embedding program: from a thread, which reads its own answer where it can, or from a coroutine."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from microkernel.embedder.buffers import EmbedderBuffers
from microkernel.errors import CallTimeout
from microkernel.kernel.kernel import Core
from microkernel.kernel.ports import ReplyLane
from microkernel.kernel.runtime.wakeup import Wakeup
from microkernel.sdk.buffer import attachment_of
from microkernel.sdk.request_context import deadline_in
from microkernel.wire import codec, messages
from microkernel.wire.failures import unwrap_reply
from microkernel.wire.topics import check_topic

if TYPE_CHECKING:
    import asyncio


class _ThreadWakeup(threading.local):
    """Of each thread that waits: a bell. A lock would do, and is slower by a third of a call: it wakes its waiter while
    the interpreter's lock is held, which then waits for that one, too."""

    def __init__(self) -> None:
        self.bell = Wakeup()


def _reset_after_fork() -> None:
    """In a forked copy of the process: else it would hear the bell of its parent, and its parent not."""
    global _mine
    _mine = _ThreadWakeup()


_mine = _ThreadWakeup()
os.register_at_fork(after_in_child=_reset_after_fork)
_LONGEST = 3600.0
"""The system takes no wait of more than some weeks; who waits for longer asks again."""


class Waiter:
    """This thread, which waits for one Reply, which is handed over."""

    __slots__ = ("_bell", "_reply")

    def __init__(self) -> None:
        self._bell = _mine.bell
        self._reply: messages.Reply | None = None

    def answer(self, reply: messages.Reply) -> None:
        """Said twice where a plugin was killed while it said it; then the next call wakes once for nothing."""
        self._reply = reply
        self._bell.ring()

    def wait(self, _id: int, deadline: float) -> messages.Reply | None:
        """None at the deadline."""
        while self._reply is None and (left := deadline - time.monotonic()) > 0:
            self._bell.wait(min(left, _LONGEST))
        return self._reply

    def release(self) -> None:
        """It was made for this one call."""


def call_message(
    target: str, timeout: float, args: tuple[Any, ...], kwargs: dict[str, Any], shared: EmbedderBuffers
) -> messages.Call:
    first, named, shares = codec.encode_arguments(args, kwargs, attachment_of)
    if shares:
        shares = shared.sent(shares)
    return messages.Call(0, check_topic(target), first, named, deadline_in(timeout), shares=shares)


def route(core: Core, message: messages.Call, waiter: Waiter | FutureWaiter | ReplyLane) -> int:
    """Send a call on its way. Return its id in the table of calls."""
    lane = waiter if not isinstance(waiter, Waiter | FutureWaiter) else None
    return core.router.call(None, message, waiter.answer, direct=True, lane=lane)


def value_of(
    reply: messages.Reply, message: messages.Call, timeout: float, returns: Any, shared: EmbedderBuffers
) -> Any:
    """Raises what the Reply tells of; what comes after the deadline is no answer."""
    if time.monotonic() >= message.deadline:
        raise CallTimeout("MK0606", target=message.target, timeout=timeout)
    return unwrap_reply(reply, message.target, returns, shared.received(reply.shares) if reply.shares else ())


class FutureWaiter:
    """A coroutine that waits for one Reply."""

    __slots__ = ("_answered", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, answered: asyncio.Future[messages.Reply]) -> None:
        self._loop = loop
        self._answered = answered

    def answer(self, reply: messages.Reply) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_resolve, self._answered, reply)


def _resolve(future: asyncio.Future[messages.Reply], reply: messages.Reply) -> None:
    if not future.done():
        future.set_result(reply)
