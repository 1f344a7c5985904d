"""Subscriptions of the embedding program: handlers on one thread of the kernel, or inline on the emitting thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from types import CoroutineType
from typing import Any
from weakref import WeakSet

from microkernel.embedder.buffers import EmbedderBuffers
from microkernel.embedder.coroutines import CoroutineRunner, running_loop
from microkernel.embedder.event_stream import EventStream
from microkernel.embedder.failures import HandlerFailures
from microkernel.embedder.inline import Entry, InlineGroup, run_isolated
from microkernel.errors import KernelError, shortage_in
from microkernel.kernel.kernel import Core
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.mailbox_owner import Counts
from microkernel.kernel.messaging.quota import PendingTable
from microkernel.kernel.messaging.topic_index import TopicSubscription
from microkernel.sdk.binding.handlers import check_runs, is_async, refuse_coroutine
from microkernel.sdk.binding.signature import EventBinder, name_of
from microkernel.sdk.decorators import check_overflow
from microkernel.sdk.event import Subscription
from microkernel.wire import codec
from microkernel.wire.messages import Attachment, Envelope, Failure, Message, Response

_CAPACITY = 10_000
_CLOSE_TIMEOUT = 5.0


class Embedder:
    """All subscriptions of one embedding program. Events are handled one at a time, in order, on one thread."""

    name = "kernel"

    def __init__(self, core: Core, failures: HandlerFailures) -> None:
        self._core = core
        self._report = failures.report
        self._coroutines = CoroutineRunner()
        self.shared = EmbedderBuffers(core)
        # Asks of plugins that wait for one of its handlers, like the incoming calls of a plugin's record.
        self.incoming: PendingTable[Delivery | None] = PendingTable()
        self.counts = Counts()
        limits = core.config.current().limits
        self.full_mailbox_timeout = float(limits.get("full_mailbox_timeout", Limits().full_mailbox_timeout))
        self.mailbox = Mailbox(_CAPACITY)
        self._signals: queue.SimpleQueue[bool] = queue.SimpleQueue()
        signal = partial(self._signals.put, True)  # one item per delivery
        self.mailbox.connect(signal, signal)
        self._handlers: dict[int, tuple[Callable[..., Any], EventBinder]] = {}
        # In the order of registration. Changed on the reactor's thread.
        self._inline: list[InlineGroup] = []
        self._numbers = count(1)
        self._streams: WeakSet[EventStream] = WeakSet()
        self._thread: threading.Thread | None = None

    def on(self, pattern: str, handler: Callable[..., Any], *, once: bool, overflow: str, inline: bool) -> Subscription:
        """Register a handler. Raises PluginLoadError for a handler that cannot be called with any event, ConfigError
        MK0628 for an ``async`` handler without a running event loop, or with ``inline``."""
        check_runs(handler)
        check_overflow(overflow)
        binder, name = EventBinder(handler), name_of(handler)
        if is_async(handler):
            handler = self._coroutines.wrap(handler, running_loop(name, inline=inline))
        if inline and not once:
            return self._core.reactor.run(partial(self._on_inline, pattern, handler, binder))
        number = next(self._numbers)
        self._handlers[number] = (handler, binder)
        registered = TopicSubscription(
            "kernel", pattern, name, self, number=number, once=once, overflow=overflow, observes=True,
            inline=partial(self._run_once, handler, binder) if inline else None,
        )  # fmt: skip
        if not inline:
            self._start_thread()
        self._core.reactor.run(partial(self._core.topics.add, registered))
        return Subscription(pattern, registered.handler, partial(self._cancel, registered))

    def add_stream(self, stream: EventStream, subscription: Subscription) -> None:
        """End the stream when the program is done with it, or when the kernel closes."""
        self._streams.add(stream)
        stream.end_by(subscription.cancel, self._core.reactor.post)

    def _on_inline(self, pattern: str, handler: Callable[..., Any], binder: EventBinder) -> Subscription:
        """Add an inline handler to the last group if it matches, else to a new one; so all run in the order of
        registration."""
        last = self._inline[-1] if self._inline else None
        if last is None or not last.matches(pattern, binder):
            last = InlineGroup(pattern, name_of(handler), binder, self, self.shared, self._report)
            self._inline.append(last)
            self._core.topics.add(last.registered)
        cancel = partial(self._cancel_inline, last, last.add(handler))
        return Subscription(pattern, name_of(handler), partial(self._core.reactor.run, cancel))

    def _cancel_inline(self, inline: InlineGroup, entry: Entry) -> None:
        inline.remove(entry)
        if inline in self._inline and not inline.entries:
            self._inline.remove(inline)
            self._core.topics.remove(inline.registered)

    def send(self, message: Message) -> None:
        """Does nothing: no handler of the embedding program can be cancelled."""

    def close(self) -> None:
        """Handle the queued events, then end the thread. Waits only briefly for a handler that does not return. A
        handler that needs this thread's event loop to return is cancelled."""
        for stream in [*self._streams]:
            stream.end()
        self._signals.put(False)
        self._coroutines.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_TIMEOUT)

    def _start_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=f"{self._core.name}-embedder", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise KernelError("MK0515", reason=shortage_in(error) or str(error)) from None
            self._thread = thread

    def _cancel(self, registered: TopicSubscription) -> None:
        if self._handlers.pop(registered.number, None) is not None:
            self._core.reactor.run(partial(self._core.topics.remove, registered))

    def _work(self) -> None:
        while self._signals.get():
            for letter in self.mailbox.take(1):
                if isinstance(letter, EventDelivery):
                    self._handle(letter)
                self.mailbox.done(letter.seq)
            if self.mailbox.blocked_sends:
                self._core.reactor.post(self.mailbox.admit_blocked)

    def _handle(self, letter: EventDelivery) -> None:
        found = self._handlers.get(letter.subscription.number)
        if found is None:
            return  # cancelled meanwhile
        function, binder = found
        reply = Response(letter.reply_to)
        try:
            args, kwargs = binder.bind(letter.envelope, letter.delivery, self.shared.received(letter.shares))
            value = function(*args, **kwargs)
            if type(value) is CoroutineType:
                refuse_coroutine(value)
            if letter.reply_to:
                reply = Response(letter.reply_to, codec.Raw(codec.encode(value)))
        except BaseException as error:  # SystemExit too: it would end this thread, and all handlers with it
            self._report(letter.subscription.handler, letter.topic, error)
            reply = Response(letter.reply_to, failure=Failure(type=type(error).__name__, message=str(error)))
        if letter.reply_to:
            self._core.calls.complete(letter.reply_to, reply)

    def _run_once(
        self, function: Callable[..., Any], binder: EventBinder, event: Envelope, shares: tuple[Attachment, ...]
    ) -> None:
        envelope = codec.encode_message(event)
        run_isolated(function, binder, event.topic, envelope, self.shared.received(shares), self._report)
