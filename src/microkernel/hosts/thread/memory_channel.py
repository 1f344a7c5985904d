"""A thread's end of its channel to the kernel, in memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from microkernel.errors import KernelClosed, PluginKilled
from microkernel.kernel.ports import InstanceEvents, MessageSource
from microkernel.kernel.runtime.wakeup import Wakeup
from microkernel.sdk.client.buffers import holds_of
from microkernel.sdk.client.channel import ChannelClosed
from microkernel.sdk.client.mapped_arrays import array_over
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Message, ReleaseBuffers, Response
from microkernel.wire.nonblocking_io import MAX_WAIT

_BATCH = 64
# Id of a reply that is not an answer: the waiting thread is to end.
_ABORTED = -1


class BufferMapping:
    """Maps the blocks that the instance was lent or sent, through the kernel's own mappings."""

    def __init__(self, events: InstanceEvents) -> None:
        self._events = events

    def array(self, block: int) -> Any:
        return array_over(self._events.memory(block))

    def forget(self, blocks: Sequence[int]) -> None:
        """Does nothing, because nothing is kept here."""


class MemoryChannel:
    """The runtime's Channel, on the kernel's message source and events instead of sockets."""

    direct = None

    def __init__(self, source: MessageSource, events: InstanceEvents) -> None:
        self._source = source
        self._events = events
        self._inbox: deque[Message] = deque()
        self._answers: dict[int, Callable[[Response], object]] = {}
        self._wakeup = Wakeup()
        self.notify = self._wakeup.notify
        self._closed = self._finished = False
        self.memory = BufferMapping(events)

    # The kernel's side

    def push(self, message: Message) -> None:
        """Deliver a message to the instance; a Response goes to the thread that waits for it."""
        if isinstance(message, Response):
            answer = self._answers.get(message.id)  # removed by the waiter: this thread may be killed right here
            if answer is not None:
                answer(message)
            elif holds := holds_of(message.shares):  # the request is no longer waiting
                self.send(ReleaseBuffers(holds))
            return
        try:
            self._inbox.append(message)
            self.notify()
        except BaseException:
            self._wakeup.set()
            raise

    def close(self) -> None:
        """Disconnect the instance: any later use of the channel ends it."""
        self._closed = True
        self.interrupt()

    def interrupt(self) -> None:
        """Wake threads that wait here for messages, or for the answer to a request, which will not come."""
        self._wakeup.set()
        for id in list(self._answers):
            answer = self._answers.pop(id, None)
            if answer is not None:
                answer(
                    Response(_ABORTED, failure=from_error(KernelClosed("MK0612", reason="the plugin is being ended")))
                )

    def forget(self) -> None:
        """Drop what a kill left: messages, and callbacks that wait for an answer."""
        self._inbox.clear()
        self._answers.clear()

    def finish(self) -> None:
        """Close the channel for reading. Idempotent. On the reactor's thread."""
        if not self._finished:
            self._closed = self._finished = True
            self._wakeup.close()

    # The runtime's side

    def fileno(self) -> int:
        self._wakeup.keep_armed()
        return self._wakeup.fileno()

    def receive(self, timeout: float | None) -> Sequence[Message]:
        if timeout == 0.0:
            self._wakeup.wait(0.0)  # first: a message that comes after it wakes the thread again
            return self._collect()
        waiting = self._collect()
        if waiting:
            return waiting
        self._wakeup.arm()
        try:
            waiting = self._collect()  # messages that came before this thread was known to wait
            if not waiting:
                self._wakeup.wait(None if timeout is None else min(timeout, MAX_WAIT))
                waiting = self._collect()
        finally:
            self._wakeup.disarm()
        return waiting

    def receive_control(self, timeout: float | None) -> Sequence[Message]:
        return self.receive(timeout)

    def _collect(self) -> Sequence[Message]:
        if self._closed:
            raise ChannelClosed
        if not self._inbox:
            return self._source.take(_BATCH)
        messages: list[Message] = []
        while self._inbox:
            messages.append(self._inbox.popleft())
        return [*messages, *self._source.take(_BATCH)]

    def send(self, message: Message) -> None:
        if self._closed:
            raise PluginKilled
        self._events.received(message)

    def reply(self, reply: Response, lane: int) -> None:  # noqa: ARG002 - the channel is the only way up
        self.send(reply)

    def request(self, id: int, message: Message, deadline: float) -> Response | None:
        answered = threading.Lock()
        answered.acquire()
        replies: list[Response] = []

        def answer(reply: Response) -> None:
            replies.append(reply)
            with suppress(RuntimeError):  # sent twice if a plugin was killed while sending it
                answered.release()

        try:
            self.request_later(id, message, answer)
            answered.acquire(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            self._answers.pop(id, None)
        if replies and replies[0].id == _ABORTED:
            raise PluginKilled
        return replies[0] if replies else None

    def request_later(self, id: int, message: Message, answer: Callable[[Response], object]) -> Callable[[], None]:
        if self._closed:
            raise PluginKilled
        self._answers[id] = answer
        self._events.received(message)
        return lambda: _forget(self._answers, id)

    def request_ahead(self, id: int, message: Message, answer: Callable[[Response], object]) -> None:
        def answered(reply: Response) -> None:
            _forget(self._answers, id)
            answer(reply)

        self.request_later(id, message, answered)

    def send_with_next(self, message: Message) -> None:
        self.send(message)  # there are no frames

    def read_available(self) -> None:
        """Do nothing, because the kernel's thread handles answers at once."""


def _forget(answers: dict[int, Callable[[Response], object]], id: int) -> None:
    answers.pop(id, None)
