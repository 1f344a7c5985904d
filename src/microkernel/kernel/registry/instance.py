"""The kernel's side of one instance: it feeds the runner with messages, and receives the runner's reports."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from mmap import mmap
from signal import SIGKILL
from typing import Protocol, cast

from microkernel.errors import KernelError, PayloadTooLarge
from microkernel.kernel.manifest import Level, Manifest, Permissions
from microkernel.kernel.messaging.buffers import BufferAccount
from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.event_bus import NATIVE_EVENTS
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import Quota
from microkernel.kernel.ports import Exit, Reactor, Runner, Snapshot
from microkernel.wire import messages
from microkernel.wire.messages import Deliver, Invoke, Message
from microkernel.wire.secrets import Secrets

LifecycleEvent = messages.Loaded | messages.Started | messages.Exported | messages.Stopped | messages.Failed | Exit

CREDIT_BATCH = 256
# Seconds for handling the messages that an instance sent before the decision to end it. Those that take longer are
# ignored.
_LAST_WORDS = 0.5


class InstanceOwner(Protocol):
    """Is responsible for an instance, as a supervisor is for its child. Its methods do not wait."""

    def on_exit(self, instance: Instance, exit: Exit) -> object:
        """The instance has exited, and none of its code runs any longer."""

    def on_activity(self, instance: Instance) -> object:
        """The instance was given work. Called on any thread, including one that can be killed."""

    def on_unresponsive(self, instance: Instance, seconds: float, what: str) -> object:
        """The instance has been silent for ``seconds``; ``what`` describes where. On the reactor's thread."""

    def on_pong(self, instance: Instance) -> object:
        """The instance has answered a Ping."""

    def on_self_exit(self, instance: Instance) -> object:
        """The instance has reported that it exits on its own initiative."""


class InstanceObserver(Protocol):
    """Receives reports of an instance and its runner. ``on_message`` may be called on a thread that can be killed."""

    def on_message(self, instance: Instance, message: Message) -> object: ...
    def on_failed(self, instance: Instance, message: messages.Failed) -> object: ...
    def on_output(self, instance: Instance, stream: str, line: str) -> object: ...
    def on_exit(self, instance: Instance, exit: Exit) -> object: ...

    def on_undeliverable(self, delivery: Delivery, error: KernelError) -> object:
        """The attachments of a delivery cannot be given to the instance."""

    def on_unwanted(self, delivery: Delivery) -> object:
        """The instance has no handler for an event, or the caller no longer waits."""


class Instance:
    """One generation of a plugin, on one runner. It is the runner's MessageSource and InstanceEvents.

    ``events`` carries the reports that the thread starting or stopping the instance waits for. Messages of a
    ``disconnected`` instance are ignored. ``owner`` changes when a reload hands the instance over.
    """

    def __init__(
        self,
        name: str,
        generation: int,
        level: Level,
        manifest: Manifest,
        snapshot: Snapshot | None,
        permissions: Permissions,
        mailbox: Mailbox,
        registered: Quota,
        observer: InstanceObserver,
        owner: InstanceOwner,
        secrets: Secrets,
        launch: Callable[[Instance], Runner],
        *,
        in_memory: bool,
    ) -> None:
        """Create the instance, and last its runner by ``launch``, whose exceptions are raised here."""
        self.name = name
        self.generation = generation
        self.level = level
        # Its messages arrive on a thread that may be killed at any bytecode.
        self.on_own_thread = level == "thread"
        self.may_call_directly = level == "process"
        # Plugins that it calls on direct channels, by the channel's number.
        self.routes: dict[int, str] = {}
        self.manifest = manifest
        self.snapshot = snapshot
        self.permissions = permissions
        self.mailbox = mailbox
        self.owner = owner
        # Must not leak by accident: the runtime redacts them in its messages, the runner in the output.
        self.secrets = secrets
        self.account = BufferAccount(name, manifest.limits.shared_memory, self._send, in_memory=in_memory)
        self.events: queue.SimpleQueue[LifecycleEvent] = queue.SimpleQueue()
        # Registrations that have not taken effect yet.
        self.staged = messages.Loaded([], [])
        self.exit: Exit | None = None
        self.exited = threading.Event()
        # The Exit that it announced, or that is forced on it. It replaces the one that the runner reports.
        self.pending_exit: Exit | None = None
        # It was asked to exit, so its exit is not a crash.
        self.exit_expected = False
        # It stops without handling the waiting deliveries first.
        self.hurried = False
        # It reported that it could not start. It exits by itself.
        self.start_failed = False
        # Calls it was given while it was retiring.
        self.passed: list[int] = []
        self.watched = self.disconnected = False
        # Slots of its emits that wait for room. On the reactor's thread.
        self.unsettled = 0
        # Charges for its registrations, by their keys.
        self.registered = registered
        # Events rejected by an instance on its own thread that the reactor has not handled yet.
        self.rejections: deque[int] = deque()
        # Types of the reports that wait in ``events``.
        self._queued: set[type] = set()
        self._credit = 0
        self._observer = observer
        self.runner = launch(self)

    def transfer(self, owner: InstanceOwner) -> None:
        """Hand the instance over to another owner. If it has exited by now, its exit is reported, perhaps twice."""
        self.owner = owner
        if self.exit is not None:
            owner.on_exit(self, self.exit)

    @property
    def is_current(self) -> bool:
        """Return whether this instance takes from the plugin's mailbox."""
        return self.mailbox.consumer is self

    # MessageSource

    @property
    def is_waiting(self) -> bool:
        return bool(self.mailbox.waiting)

    def take(self, limit: int) -> list[Message]:
        mailbox = self.mailbox
        taken: list[Message] = []
        if not mailbox.waiting or mailbox.consumer is not self or self.disconnected:
            return taken
        if not mailbox.in_flight:
            mailbox.progress = time.monotonic()
        deliveries = mailbox.take(limit)
        if deliveries and not self.watched:
            self.owner.on_activity(self)
        if NATIVE_EVENTS is not None:
            return cast(list[Message], NATIVE_EVENTS.messages(deliveries, self))
        for delivery in deliveries:
            message = delivery.message(self.runner)
            if message is None or message.shares:
                message = self.prepare(delivery, message)
            if message is not None:
                taken.append(message)
        return taken

    def prepare(self, delivery: Delivery, message: Deliver | Invoke | None) -> Deliver | Invoke | None:
        """Return the message of a delivery that was taken, with its attachments; None, after reporting it, if the
        instance does not get it."""
        if message is not None and self.give_shares(message, delivery):
            return message
        self.mailbox.done(delivery.seq)
        if message is None:  # else the failure was reported
            self._observer.on_unwanted(delivery)
        return None

    def give_shares(self, message: Deliver | Invoke, delivery: Delivery) -> bool:
        """Give the instance access to the attachments of a delivery. Return False if that is impossible; the sender got
        an error."""
        try:
            message.shares = self.account.give(delivery.shares)
        except PayloadTooLarge as error:
            self._observer.on_undeliverable(delivery, error)
            return False
        return True

    # InstanceEvents

    def received(self, message: Message) -> None:
        self._observer.on_message(self, message)

    def failed(self, phase: str, failure: messages.Failure) -> None:
        if not self.disconnected:
            self._observer.on_failed(self, messages.Failed(phase, failure))

    def output(self, stream: str, line: str) -> None:
        self._observer.on_output(self, stream, line)

    def ended(self, exit: Exit) -> None:
        exit = self.pending_exit or exit
        self.account.close()
        self._observer.on_exit(self, exit)  # before anyone who waits for the exit continues
        self.exit = exit
        self.exited.set()
        self.events.put(exit)
        self.owner.on_exit(self, exit)

    def memory(self, block: int) -> mmap:
        return self.account.block(block).memory

    def descriptor(self, block: int) -> tuple[int, bool]:
        return self.account.descriptor(block)

    def malformed(self, error: KernelError) -> None:
        self.pending_exit = Exit(str(error), signal=SIGKILL)

    def _send(self, message: Message) -> None:
        self.runner.send(message)

    # For its owner

    def disconnect(self, reactor: Reactor) -> None:
        """Handle all messages sent so far, read or not, and ignore later ones.

        Must not be called on a plugin's thread or on the reactor's, because it waits for the reactor.
        """
        heard = threading.Event()
        reactor.post(lambda: self.runner.drain(heard.set))
        heard.wait(_LAST_WORDS)
        reactor.run(self._cut)

    def _cut(self) -> None:
        self.disconnected = True

    def push_event(self, event: LifecycleEvent) -> None:
        """Keep a report until it is waited for. At most one of each type, because each may be as large as a frame."""
        if type(event) not in self._queued:
            self._queued.add(type(event))
            self.events.put(event)

    def wait_for(
        self, kind: type[LifecycleEvent], seconds: float, on_other: Callable[[LifecycleEvent], None] | None = None
    ) -> LifecycleEvent | None:
        """Return the next report of this type, or an Exit; None after ``seconds`` (0: wait without limit).

        Other reports go to ``on_other``. Without it, a Failed is returned too.
        """
        deadline = time.monotonic() + seconds if seconds else None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                event = self.events.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))
            except queue.Empty:
                return None
            self._queued.discard(type(event))
            if isinstance(event, kind | Exit) or (isinstance(event, messages.Failed) and on_other is None):
                return event
            if on_other is not None:
                on_other(event)

    def on_settled(self, slots: int) -> None:
        """Settle one of its emits, which took ``slots`` and no longer waits for room."""
        self.unsettled -= slots
        self.give_credit(slots)

    def give_credit(self, slots: int) -> None:
        """Allow the instance to emit ``slots`` more. Credit is sent in batches."""
        self._credit += slots
        if self._credit >= CREDIT_BATCH:
            self.runner.send(messages.Credit(self._credit))
            self._credit = 0


def kind_of(key: Hashable) -> str:
    """Return the kind of a registration by its key: a name if it is a method, else a handler's key."""
    if isinstance(key, tuple):
        return "watchers" if key[0] else "handlers"
    return "methods" if key else ""
