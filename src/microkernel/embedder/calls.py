"""Calls of the embedding program: from a thread, which reads its own answer if a lane is free, or from a coroutine."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from microkernel.embedder.buffers import EmbedderBuffers
from microkernel.errors import CallTimeout
from microkernel.kernel.kernel import Core
from microkernel.kernel.messaging.delivery import CallDelivery
from microkernel.kernel.ports import ReplyLane
from microkernel.kernel.routing.call_table import PendingCall
from microkernel.kernel.runtime.wakeup import Wakeup
from microkernel.sdk.buffer import attachment_of
from microkernel.sdk.request_context import MAX_TIMEOUT, current, deadline_in
from microkernel.wire import codec, messages, native
from microkernel.wire.failures import unwrap_reply
from microkernel.wire.nonblocking_io import MAX_WAIT
from microkernel.wire.topics import check_topic

if TYPE_CHECKING:
    import asyncio


class _ThreadWakeup(threading.local):
    """A Wakeup for each waiting thread.

    A lock would do, but makes a call a third slower: it wakes its waiter while the interpreter's lock is held, and the
    waiter then waits for that too.
    """

    def __init__(self) -> None:
        self.wakeup = Wakeup()


def _reset_after_fork() -> None:
    """Replace the wakeups in a forked copy of the process, which would otherwise share them with its parent."""
    global _wakeups
    _wakeups = _ThreadWakeup()


_wakeups = _ThreadWakeup()
os.register_at_fork(after_in_child=_reset_after_fork)


class Waiter:
    """Waits on this thread for one Response that another thread passes to ``answer``."""

    __slots__ = ("_reply", "_wakeup")

    def __init__(self) -> None:
        self._wakeup = _wakeups.wakeup
        self._reply: messages.Response | None = None

    def answer(self, reply: messages.Response) -> None:
        """Set the reply. May happen twice if a plugin was killed during the first; then the next call wakes once
        without a reply."""
        self._reply = reply
        self._wakeup.set()

    def wait(self, _id: int, deadline: float) -> messages.Response | None:
        """Wait for the reply; None at the deadline."""
        while self._reply is None and (left := deadline - time.monotonic()) > 0:
            self._wakeup.wait(min(left, MAX_WAIT))
        return self._reply

    def release(self) -> None:
        """Does nothing: a Waiter is used for one call only."""


def call_message(
    target: str, timeout: float, args: tuple[Any, ...], kwargs: dict[str, Any], shared: EmbedderBuffers
) -> messages.Call:
    first, named, shares = codec.encode_arguments(args, kwargs, attachment_of)
    if shares:
        shares = shared.sent(shares)
    return messages.Call(0, check_topic(target), first, named, deadline_in(timeout), shares=shares)


# Sends calls, and takes them out of the tables, as ``call_message``, ``route`` and ``CallTable.complete`` do; None
# without the native core.
NATIVE_CALLS = native.make(
    "CallPath", messages.Call, PendingCall, CallDelivery, codec.Raw, codec.encode_message, check_topic,
    current, MAX_TIMEOUT,
)  # fmt: skip


def route(core: Core, message: messages.Call, waiter: Waiter | FutureWaiter | ReplyLane) -> int:
    """Send a call on its way. Return its id in the table of calls."""
    lane = waiter if not isinstance(waiter, Waiter | FutureWaiter) else None
    return core.router.call(None, message, waiter.answer, direct=True, lane=lane)


def value_of(
    reply: messages.Response, message: messages.Call, timeout: float, returns: Any, shared: EmbedderBuffers
) -> Any:
    """Return the value of a reply, or raise its error. A reply after the deadline does not count."""
    if time.monotonic() >= message.deadline:
        raise CallTimeout("MK0606", target=message.target, timeout=timeout)
    return unwrap_reply(reply, message.target, returns, shared.received(reply.shares) if reply.shares else ())


class FutureWaiter:
    """Passes one Response to a coroutine that awaits a future."""

    __slots__ = ("_answered", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, answered: asyncio.Future[messages.Response]) -> None:
        self._loop = loop
        self._answered = answered

    def answer(self, reply: messages.Response) -> None:
        with suppress(RuntimeError):  # the loop is closed, so the future is not awaited
            self._loop.call_soon_threadsafe(_resolve, self._answered, reply)


def _resolve(future: asyncio.Future[messages.Response], reply: messages.Response) -> None:
    if not future.done():
        future.set_result(reply)
