"""The requests of an instance to the kernel, each with its deadline, chain of callers, and checks.

The checks of permissions here are a copy, so that the error is raised at the line of the request. The kernel's gate
decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from microkernel.errors import CallTimeout, KernelError, PermissionDenied
from microkernel.sdk.buffer import Buffer, attachment_of
from microkernel.sdk.client.buffers import BufferExchange
from microkernel.sdk.client.channel import Channel
from microkernel.sdk.event import Reply
from microkernel.sdk.request_context import IDLE, current, deadline_in
from microkernel.wire import codec, messages
from microkernel.wire.failures import to_error, unwrap_reply
from microkernel.wire.topics import check_pattern, check_topic, covers

Attached = Sequence[Buffer]
# Seconds to wait for the kernel's answer to a registration or a request to the shared data.
_CONTROL_TIMEOUT = 10.0


class Client:
    """The requests of one instance over its channel."""

    def __init__(self, channel: Channel, load: messages.Load) -> None:
        self._channel = channel
        self._load = load
        self._ids = count(1)
        self.sharing = BufferExchange(
            channel.memory, self._allocate, self._release, self._prepare, channel.read_available
        )

    def emit(self, topic: str, data: dict[str, Any]) -> None:
        check_topic(topic)
        self._permit("emit", self._load.emits, topic)
        payload, shares = codec.encode_with(data, attachment_of)
        self._channel.send(messages.Emit(topic, codec.Raw(payload), shares))

    def ask(self, topic: str, timeout: float, data: dict[str, Any]) -> list[Reply]:
        message = self._ask_message(topic, timeout, data, current.get().slot)
        reply = self._request(message.id, message, message.deadline + 1.0, f"ask {topic}", timeout)
        return _answers_in(reply)

    async def aask(self, topic: str, timeout: float, data: dict[str, Any]) -> list[Reply]:
        """Like ``ask``, but occupies no thread, and so cannot close a cycle."""
        message = self._ask_message(topic, timeout, data, -1)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Answered] = loop.create_future()
        forget = self._channel.request_later(message.id, message, partial(self._deliver, loop, answered))
        try:
            async with asyncio.timeout_at(loop.time() + message.deadline + 1.0 - time.monotonic()):
                return _answers_in((await answered)[0])
        except TimeoutError:
            raise CallTimeout("MK0606", target=f"ask {topic}", timeout=round(timeout, 3)) from None
        finally:
            forget()

    def _ask_message(self, topic: str, timeout: float, data: dict[str, Any], slot: int) -> messages.Ask:
        check_topic(topic)
        self._permit("emit", self._load.emits, topic)
        payload, shares = codec.encode_with(data, attachment_of)
        raw, deadline = codec.Raw(payload), deadline_in(timeout)
        return messages.Ask(next(self._ids), topic, raw, deadline, slot, self._chain(), shares)

    def call(self, target: str, timeout: float, args: Sequence[Any], kwargs: dict[str, Any], returns: Any) -> Any:
        message = self._call_message(target, timeout, args, kwargs, current.get().slot)
        timeout = min(timeout, message.deadline - time.monotonic())  # limited by the deadline of the call around it
        reply = self._request(message.id, message, message.deadline, target, timeout)
        return self._result(reply, self._attached(reply), message, timeout, returns)

    async def acall(
        self, target: str, timeout: float, args: Sequence[Any], kwargs: dict[str, Any], returns: Any
    ) -> Any:
        """Like ``call``, but occupies no thread, and so cannot close a cycle."""
        message = self._call_message(target, timeout, args, kwargs, -1)
        timeout = min(timeout, message.deadline - time.monotonic())
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Answered] = loop.create_future()
        forget = self._channel.request_later(message.id, message, partial(self._deliver, loop, answered))
        try:
            async with asyncio.timeout(timeout):
                return self._result(*await answered, message, timeout, returns)
        except TimeoutError:
            raise CallTimeout("MK0606", target=target, timeout=round(timeout, 3)) from None
        finally:
            forget()
            if not answered.done() or answered.cancelled():
                self._channel.send(messages.Cancel(message.id))

    def get_data(self, key: str, default: Any) -> Any:
        check_topic(key)
        self._permit("data.read", self._load.reads, key)
        revision, value = codec.decode(self._data("get", key).value)
        return value if revision else default

    def set_data(self, key: str, value: Any, expect: int | None) -> int:
        check_topic(key)
        self._permit("data.write", self._load.writes, key)
        reply = self._data("set", key, codec.encode(value), -1 if expect is None else expect)
        return int(codec.decode(reply.value, int))

    def delete_data(self, key: str) -> None:
        check_topic(key)
        self._permit("data.write", self._load.writes, key)
        self._data("delete", key)

    def subscribe(self, handler: messages.Handler) -> None:
        self.check_handler(handler)
        id = next(self._ids)
        self._control(id, messages.Subscribe(id, handler))

    def unsubscribe(self, number: int) -> None:
        id = next(self._ids)
        self._control(id, messages.Unsubscribe(id, number))

    def expose(self, method: messages.Method) -> None:
        id = next(self._ids)
        self._control(id, messages.Expose(id, method))

    def check_handler(self, handler: messages.Handler) -> None:
        """Raise BadTopic or PermissionDenied if the handler may not be registered."""
        check_pattern(handler.pattern)
        if handler.board:
            self._permit("data.read", self._load.reads, handler.pattern)
        else:
            self._permit("on", self._load.listens, handler.pattern)

    def _call_message(
        self, target: str, timeout: float, args: Sequence[Any], kwargs: dict[str, Any], slot: int
    ) -> messages.Call:
        check_topic(target)
        self._permit("call", self._load.calls, target)
        first, named, shares = codec.encode_arguments(args, kwargs, attachment_of)
        return messages.Call(next(self._ids), target, first, named, deadline_in(timeout), slot, self._chain(), shares)

    def _chain(self) -> list[str]:
        """Return the plugins whose handlers wait for this request. Spawned work belongs to no handler."""
        work = current.get()
        return [] if work is IDLE else [*work.chain, self._load.name]

    def _data(self, action: str, key: str, value: bytes = b"\xc0", expect: int = -1) -> messages.Response:
        id = next(self._ids)
        return self._control(id, messages.Data(id, action, key, codec.Raw(value), expect))

    def _control(self, id: int, message: messages.Message) -> messages.Response:
        return self._request(id, message, time.monotonic() + _CONTROL_TIMEOUT, "kernel", _CONTROL_TIMEOUT)

    def _request(
        self, id: int, message: messages.Message, deadline: float, target: str, timeout: float = 0.0
    ) -> messages.Response:
        try:
            reply = self._channel.request(id, message, deadline)
        except BaseException:  # whatever was raised here, the answer is no longer needed
            self._channel.send(messages.Cancel(id))
            raise
        if reply is None:
            self._channel.send(messages.Cancel(id))
            raise CallTimeout("MK0606", target=target, timeout=round(timeout, 3))
        if reply.failure is not None:
            raise to_error(reply.failure, target)
        return reply

    def _result(
        self, reply: messages.Response, attached: Attached, message: messages.Call, timeout: float, returns: Any
    ) -> Any:
        """Return the value of a reply. A reply after the deadline does not count; otherwise a callee that stops at the
        deadline would be an answer by chance."""
        if time.monotonic() >= message.deadline:
            raise CallTimeout("MK0606", target=message.target, timeout=round(timeout, 3))
        return unwrap_reply(reply, message.target, returns, attached)

    def _attached(self, reply: messages.Response) -> Attached:
        return self.sharing.receive(reply.shares) if reply.shares else ()

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[_Answered], reply: messages.Response
    ) -> None:
        answered = reply, self._attached(reply)  # here, so that the buffers are released even if the future is dropped
        with suppress(RuntimeError):  # the loop is closed, so the future is not awaited
            loop.call_soon_threadsafe(_resolve, future, answered)

    def _allocate(self, size: int) -> list[messages.Attachment]:
        id = next(self._ids)
        lent: list[messages.Attachment] = codec.decode(
            self._control(id, messages.AllocateBuffer(id, size)).value, _LENT
        )
        return lent

    def _prepare(self, size: int, ended: list[int], take: Callable[[Sequence[messages.Attachment]], object]) -> None:
        def answered(reply: messages.Response) -> None:
            take(codec.decode(reply.value, _LENT) if reply.failure is None else ())

        if ended:
            self._channel.send_with_next(messages.ReleaseBuffers(ended))
        id = next(self._ids)
        self._channel.request_ahead(id, messages.AllocateBuffer(id, size, ahead=True), answered)

    def _release(self, holds: list[int]) -> None:
        self._channel.send(messages.ReleaseBuffers(holds))

    def _permit(self, action: str, granted: list[str] | None, what: str) -> None:
        line = f'{action} = ["{what}"]'
        if what.startswith("kernel."):
            if action != "emit":
                return  # only the gate knows permissions to observe and control; its answer arrives at this line too
            line = "nothing: only the kernel emits these"
        elif granted is None or any(covers(pattern, what) for pattern in granted):
            return
        raise PermissionDenied("MK0401", name=self._load.name, action=action, what=what, line=line)


_ANSWERS = list[tuple[str, Any, messages.Failure | None]]
_LENT = list[messages.Attachment]
_Answered = tuple[messages.Response, Attached]


def _answers_in(reply: messages.Response) -> list[Reply]:
    answers: list[tuple[str, Any, messages.Failure | None]] = codec.decode(reply.value, _ANSWERS)
    return [_answer(*answer) for answer in answers]


def _answer(plugin: str, value: Any, failure: messages.Failure | None) -> Reply:
    error: KernelError | None = to_error(failure, plugin) if failure else None
    return Reply(plugin, value, error)


def _resolve(future: asyncio.Future[_Answered], answered: _Answered) -> None:
    if not future.done():
        future.set_result(answered)
