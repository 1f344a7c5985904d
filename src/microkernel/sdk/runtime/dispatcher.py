"""Dispatch messages to plugin code: deliveries and calls in, Done, Rejected and Response out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import CoroutineType
from typing import Any

from microkernel.errors import CallTimeout, InvalidArguments, KernelError
from microkernel.sdk.binding.handlers import HandlerBinding, Handlers, MethodBinding
from microkernel.sdk.buffer import attachment_of
from microkernel.sdk.client.buffers import BufferExchange
from microkernel.sdk.client.channel import Channel
from microkernel.sdk.failures import failure_of
from microkernel.sdk.process_copies import end_copy, page
from microkernel.sdk.request_context import NO_SLOT, RequestContext, current
from microkernel.sdk.runtime.executor import InlineExecutor, Job, Pool, Tasks
from microkernel.wire import codec, messages, native
from microkernel.wire.failures import from_error
from microkernel.wire.secrets import Secrets

# Seconds for which Done may wait to be sent together with others.
_FLUSH_AFTER = 0.001
_FLUSH_COUNT = 64
# Characters of a signature that an error shows.
_LONGEST_SIGNATURE = 300


class Dispatcher:
    """Takes messages from the channel and runs their handlers and methods. ``stop`` is set when the kernel requests a
    stop."""

    def __init__(
        self, channel: Channel, handlers: Handlers, sharing: BufferExchange, name: str, root: str, secrets: Secrets
    ) -> None:
        self._channel = channel
        self._handlers = handlers
        self._sharing = sharing
        self._name = name
        self._root = root
        self._secrets = secrets
        self._backlog: deque[messages.Message] = deque()
        self._after_stop: list[messages.Message] = []
        self._posted: deque[Callable[[], object]] = deque()
        self._done: list[int] = []
        self._last_receive = 0.0
        self._calls: dict[int, Job] = {}
        self.executor: InlineExecutor | Pool | Tasks = InlineExecutor()
        self.stop: messages.Stop | None = None
        # Whether the plugin exports its state.
        self.exports = False
        # Set together with ``stop``, for handlers on other threads.
        self.stopping = threading.Event()
        # Set when the instance is sure to end, for all its other threads.
        self.ending = threading.Event()

    def use(self, executor: InlineExecutor | Pool | Tasks) -> None:
        """Run jobs on this executor from now on."""
        self.executor = executor

    def expect_export(self) -> None:
        """Expect the plugin to export its state when a Stop requests it: such a Stop may be revoked."""
        self.exports = True

    def next(self, timeout: float | None) -> Sequence[messages.Message]:
        """Return the messages to handle now; waits only if there are none."""
        if self._backlog:
            batch = list(self._backlog)
            self._backlog.clear()
            return batch
        if self._done or self._sharing.ended:
            self.flush()
        received = self._channel.receive(timeout)
        self._last_receive = time.monotonic()
        return received

    def poll_control(self, timeout: float) -> None:
        """Receive messages while a handler runs. A Cancel or a Stop takes effect immediately, the others are queued."""
        for message in self._channel.receive_control(timeout):
            if isinstance(message, messages.Cancel):
                self._cancel(message)
                continue
            if isinstance(message, messages.Stop):
                self._stop(message)
                continue
            if self.stop is not None and self._is_waited_for(message):
                self.handle(message)
                continue
            self._backlog.append(message)

    def _is_waited_for(self, message: messages.Message) -> bool:
        """Return whether the message is a call whose caller one of our own handlers waits for: the handler cannot end
        before it is answered."""
        return isinstance(message, messages.Invoke) and self._name in message.chain

    def not_started(self) -> list[int]:
        """After a Stop: return the ids of calls that arrived before it and were not started. The kernel handles them,
        as it does events."""
        waiting = [*self._after_stop, *self._backlog]
        self._after_stop.clear()
        self._backlog.clear()
        return [message.id for message in waiting if isinstance(message, messages.Invoke)]

    def resume(self) -> None:
        """Revoke the Stop: messages that arrived since are handled, in their order."""
        self._backlog.extendleft(reversed(self._after_stop))
        self._after_stop.clear()
        self.stopping.clear()
        self.stop = None

    def forget(self, handlers: Handlers) -> None:
        """Drop all jobs and functions, because nothing will be handled any more."""
        self._handlers, self.executor = handlers, InlineExecutor()
        self._backlog.clear()
        self._posted.clear()
        self._calls.clear()

    def post(self, work: Callable[[], object]) -> None:
        """Run ``work`` on the main thread; from any thread. The Pong wakes the main thread."""
        self._posted.append(work)
        self._channel.send(messages.Ping(0))

    def handle(self, message: messages.Message) -> None:
        match message:
            case messages.Deliver():
                self._deliver(message)
            case messages.Invoke():
                self._invoke(message)
            case messages.Cancel():
                self._cancel(message)
            case messages.Ping():
                self._channel.send(messages.Pong(message.id))
            case messages.Pong():
                self._pong(message)
            case messages.Stop():
                self._stop(message)
            case messages.BlocksFreed():
                self._sharing.forget(message.blocks)
            case messages.DirectOffer():
                self._offer(message)
            case _:
                pass  # a newer kernel may send unknown messages

    def _pong(self, message: messages.Pong) -> None:
        while self._posted:
            self._posted.popleft()()
        if message.id and self._channel.direct is not None:
            self._channel.direct.confirm()

    def _offer(self, message: messages.DirectOffer) -> None:
        """Accept a direct channel, unless handlers run on a pool or in an event loop: calls would not run in the order
        in which they arrive."""
        if self._channel.direct is not None:
            is_serial = isinstance(self.executor, InlineExecutor)
            self._channel.direct.offer(message, self._has_method if is_serial else None)

    def _has_method(self, name: str) -> bool:
        return name in self._handlers.methods

    def flush(self) -> None:
        """Report handled deliveries and released buffers to the kernel."""
        if self._sharing.ended:
            self._sharing.flush()
        if self._done:
            done, self._done = self._done, []
            self._channel.send(messages.Done(done))

    def _stop(self, message: messages.Stop) -> None:
        self.stop = message
        self.stopping.set()
        if not (message.export and self.exports):
            self.ending.set()

    def _deliver(self, message: messages.Deliver) -> None:
        now = time.monotonic()
        if now - self._last_receive > _FLUSH_AFTER:
            self._last_receive = now
            self.flush()
            self.poll_control(0.0)  # a Stop must not wait until a long queue of events is handled
        if self.stop is not None:
            self._after_stop.append(message)
            return
        registered = self._handlers.by_number.get(message.handler)
        if registered is None:
            self._sharing.drop(message.shares)
            self._refuse(message, _failure("it has no such handler any more"))
            return
        try:
            attached = self._sharing.receive(message.shares) if message.shares else ()
            args, kwargs = registered.binder.bind(message.event, message.delivery, attached)
        except InvalidArguments as error:
            self._refuse(message, from_error(error))
            return
        work = RequestContext(message.seq, message.deadline, [], NO_SLOT)
        finish = partial(self._delivered, message)
        self.executor.submit(Job(work, registered.function, args, kwargs, finish, registered.is_async))

    def _delivered(self, message: messages.Deliver, value: Any, error: BaseException | None) -> None:
        if not page[0]:
            end_copy(error)
        if error is None and message.reply_to:
            error = self._answer(message.reply_to, value)
        if error is not None:
            self._refuse(message, failure_of(error, self._root, self._secrets))
            return
        if not isinstance(self.executor, InlineExecutor):
            self._channel.send(messages.Done([message.seq]))  # called on any thread, so there is no shared list
            return
        self._done.append(message.seq)
        if len(self._done) >= _FLUSH_COUNT:
            self.flush()

    def _answer(self, id: int, value: Any) -> BaseException | None:
        try:
            self._channel.reply(messages.Response(id, codec.Raw(codec.encode(value))), -1)
        except KernelError as error:
            return error
        return None

    def _refuse(self, message: messages.Deliver, failure: messages.Failure) -> None:
        if message.reply_to:
            self._channel.reply(messages.Response(message.reply_to, failure=failure), -1)
        self._channel.send(messages.Rejected(message.seq, failure))

    def settle(self, message: messages.Deliver | messages.Invoke, value: Any, error: BaseException | None) -> None:
        """Finish what the native core has run and does not finish itself: a job that raised, or one whose value needs
        more than to be encoded. Called in the job's context."""
        finish: Any = self._delivered if isinstance(message, messages.Deliver) else self._returned
        Job(current.get(), _outcome, (value, error), {}, partial(finish, message), is_async=False).run_here(0)

    def answer(self, message: messages.Invoke, payload: bytes) -> None:
        """Send the value of a method that the native core has run and encoded."""
        self._channel.reply(messages.Response(message.id, codec.Raw(payload)), message.lane)

    def _invoke(self, message: messages.Invoke) -> None:
        if self.stop is not None and not self._is_waited_for(message):
            self._after_stop.append(message)
            return
        try:
            attached = self._sharing.receive(message.shares) if message.shares else ()
            if time.monotonic() >= message.deadline:  # it was queued until after its deadline
                raise CallTimeout("MK0606", target=f"{self._name}.{message.method}", timeout=0.0)
            exposed = self._handlers.method(self._name, message.method)
            args, kwargs = exposed.binder.bind(message.args, message.kwargs, attached)
        except KernelError as error:
            if isinstance(error, InvalidArguments):
                error.fields["reason"] = f"{self._name}.{message.method}: {error.fields['reason']}"
                error.fields["cure"] = self._signature_of(message.method)
            self._channel.reply(messages.Response(message.id, failure=from_error(error)), message.lane)
            return
        if self._done or self._sharing.ended:
            self.flush()
        work = RequestContext(message.id, message.deadline, message.chain, NO_SLOT)
        job = Job(work, exposed.function, args, kwargs, partial(self._returned, message), exposed.is_async)
        self._calls[message.id] = job
        if self.stop is not None and not job.is_async:
            job.run(NO_SLOT)  # the executor's threads may have ended; this thread is waiting for them
        else:
            self.executor.submit(job)

    def _signature_of(self, name: str) -> str:
        """Return the end of the message about arguments that do not fit: the method as it is written."""
        exposed = self._handlers.methods.get(name)
        return (
            f"; the method is {codec.plain_text(name + exposed.wire.signature, _LONGEST_SIGNATURE)}" if exposed else ""
        )

    def _returned(self, message: messages.Invoke, value: Any, error: BaseException | None) -> None:
        if not page[0]:
            end_copy(error)
        self._calls.pop(message.id, None)
        try:
            payload, shares = codec.encode_with(value, attachment_of)
            reply = messages.Response(message.id, codec.Raw(payload), shares=shares)
        except KernelError as refused:
            error = refused
        if error is not None:
            reply = messages.Response(message.id, failure=failure_of(error, self._root, self._secrets))
        self._channel.reply(reply, message.lane)

    def _cancel(self, message: messages.Cancel) -> None:
        job = self._calls.get(message.id)
        if job is None:
            return
        job.work.cancel_requested = True
        if job.task is not None:
            job.task.cancel()


def _outcome(value: Any, error: BaseException | None) -> Any:
    if error is not None:
        raise error
    return value


# Runs messages as ``Dispatcher.handle`` does; None without the native core.
NATIVE_RUNNER = native.make(
    "MessageRunner", messages.Deliver, messages.Invoke, HandlerBinding, MethodBinding, InlineExecutor, Job,
    RequestContext, current, CoroutineType, codec.encode_message, codec.values_of, page, _FLUSH_AFTER, _FLUSH_COUNT,
    codec.MAX_PAYLOAD,
)  # fmt: skip


def _failure(reason: str) -> messages.Failure:
    return messages.Failure(type="LookupError", message=reason)
