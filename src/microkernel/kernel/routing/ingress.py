"""Where a message from an instance enters the kernel: past the gate, to the bus, the router or the context.

It runs on the thread that has the message. On a plugin's own thread, which may be killed at any bytecode, only what
changes the kernel by single C calls is done there (emit, call, reply, done); the rest is left to the reactor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from microkernel.errors import KernelError, PermissionDenied
from microkernel.kernel.admission import gate
from microkernel.kernel.admission.permissions import CONFINED
from microkernel.kernel.messaging.buffers import BufferPool
from microkernel.kernel.messaging.delivery import CallDelivery, Delivery, EventDelivery
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.ports import Exit
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.routing.call_router import CallRouter, cancel
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.routing.registration import Registrar
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.kernel.service.service import KernelService
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode_message, plain_text
from microkernel.wire.failures import OF_LOADING, OF_REPLIES, OF_STARTING, as_reported, from_error, reason_suffix
from microkernel.wire.messages import Reply
from microkernel.wire.slots import EMIT_WINDOW, size_of, slots_for


class InstanceObserver(Protocol):
    """Who is told of what happens."""

    def bury(self, letter: EventDelivery, reason: str, failure: messages.Failure | None = None) -> object: ...
    def logged(self, instance: Instance, message: messages.Log) -> object: ...
    def failed(self, instance: Instance, message: messages.Failed) -> object: ...
    def output(self, instance: Instance, stream: str, line: str) -> object: ...
    def refused(self, instance: Instance, error: KernelError) -> object: ...
    def ended(self, instance: Instance, exit: Exit) -> object: ...
    def began(self, instance: Instance) -> object: ...
    def leaves(self, instance: Instance) -> object: ...
    def alive(self, instance: Instance) -> object: ...


class Ingress:
    """``receive`` on any thread."""

    def __init__(
        self,
        bus: EventBus,
        router: CallRouter,
        context: DataStore,
        subscribing: Registrar,
        service: KernelService,
        buffers: BufferPool,
        reactor: Reactor,
        witness: InstanceObserver,
    ) -> None:
        self._bus = bus
        self._router = router
        self._context = context
        self._subscribing = subscribing
        self._service = service
        self._buffers = buffers
        self._reactor = reactor
        self._witness = witness
        self.bury = witness.bury
        self.output = witness.output
        self.ended = witness.ended
        self.began = witness.began
        self._ways: dict[type, Callable[[Instance, Any], object]] = {
            messages.Emit: self._emit,
            messages.Call: self._call,
            messages.Reply: self._reply,
            messages.Done: self._done,
            messages.Ask: self._ask,
            messages.Cancel: self._cancel,
            messages.Data: self._data,
            messages.Subscribe: self._subscribe,
            messages.Unsubscribe: self._unsubscribe,
            messages.AllocateBuffer: self._lend,
            messages.ReleaseBuffers: self._released,
            messages.Expose: self._expose,
            messages.Rejected: self._rejected,
            messages.Log: witness.logged,
            messages.Ping: lambda i, m: i.runner.send(messages.Pong(m.id)),
            messages.Pong: lambda i, _: witness.alive(i),
            messages.SelfExit: self._leaving,
            messages.Loaded: lambda i, m: i.hear(m),
            messages.Started: lambda i, m: i.hear(m),
            messages.Stopped: lambda i, m: i.hear(m),
            messages.Exported: lambda i, m: i.hear(m),
            messages.Failed: self._failed,
        }

    def receive(self, instance: Instance, message: messages.Message) -> None:
        if instance.on_own_thread and (instance.rejections or type(message) not in _IN_PLACE):
            self._receive_later(instance, message)
        else:
            self._pass(instance, message)

    def _receive_later(self, instance: Instance, message: messages.Message) -> None:
        """On the reactor's thread. An answer does not overtake that an event before it was rejected: whoever has the
        answer sees the dead letter."""
        if type(message) is messages.Rejected:
            instance.rejections.append(message.seq)
        elif type(message) in _IN_PLACE and type(message) is not Reply:
            self._pass(instance, message)
            return
        self._reactor.post(partial(self._pass, instance, message))

    def _pass(self, instance: Instance, message: messages.Message) -> None:
        way = self._ways.get(type(message))
        if way is None or instance.cut:
            return  # a message for instances, or from one that no longer counts
        try:
            gate.admit(instance.name, instance.permissions, message)
            way(instance, message)
        except KernelError as error:
            self._refuse(instance, message, error)

    def cut_off(self, instance: Instance) -> None:
        """Not on the reactor's thread: it waits for it."""
        heard = threading.Event()
        self._reactor.post(partial(instance.runner.drain, heard.set))
        heard.wait(_LAST_WORDS)
        self._reactor.run(partial(_cut, instance))

    def undeliverable(self, letter: Delivery, error: KernelError) -> None:
        """What is attached to it cannot be given to who it is for."""
        if isinstance(letter, CallDelivery):
            self._router.fail(letter.call.id, error)
        elif isinstance(letter, EventDelivery):
            self.bury(letter, error.text)

    def _refuse(self, instance: Instance, message: messages.Message, error: KernelError) -> None:
        if isinstance(message, _ASKING):
            instance.runner.send(Reply(message.id, failure=from_error(error)))
        elif isinstance(message, Reply):
            self._router.replied(instance.record, Reply(message.id, failure=from_error(error)))
            self._report_refusal(instance, error)
        elif isinstance(error, PermissionDenied) or isinstance(message, messages.Emit):
            self._report_refusal(instance, error)
            instance.give_credit(_places(message) if isinstance(message, messages.Emit) else 1)

    def _report_refusal(self, instance: Instance, error: KernelError) -> None:
        """At once where this is the reactor's thread: it takes from the turn of the plugin that caused it."""
        self._reactor.submit(partial(self._witness.refused, instance, error))

    # In place: each changes the kernel by single C calls

    def _emit(self, instance: Instance, message: messages.Emit) -> None:
        if message.shares:
            message.shares = instance.holdings.take(message.shares)
        instance.record.counts.emitted += 1
        if instance.on_own_thread:
            self._bus.emit(instance.name, message.topic, message.data, message.shares)
        else:
            places = _places(message)
            instance.unsettled += places
            settled = partial(instance.settled, places)
            patient = instance.unsettled <= _MOST_UNSETTLED
            self._bus.emit(
                instance.name, message.topic, message.data, message.shares,
                settled=settled, direct=True, patient=patient,
            )  # fmt: skip

    def _call(self, instance: Instance, message: messages.Call) -> None:
        if message.shares:
            message.shares = instance.holdings.take(message.shares)
        answer = partial(_answer, instance, message.id)
        if message.target.startswith(gate.KERNEL_TOPICS):
            self._service.call(message, answer)
            return
        self._router.call(instance.record, message, answer, direct=not instance.on_own_thread)

    def _reply(self, instance: Instance, message: Reply) -> None:
        if message.shares:
            message.shares = instance.holdings.take(message.shares)
        if message.failure is not None:
            message.failure = as_reported(message.failure, OF_REPLIES)
        self._router.replied(instance.record, message)

    def _released(self, instance: Instance, message: messages.ReleaseBuffers) -> None:
        instance.holdings.release(message.holds)

    def _done(self, instance: Instance, message: messages.Done) -> None:
        record = instance.record
        instance.progress = self._reactor.now()
        record.counts.events += record.mailbox.handled_all(message.seqs)
        if record.mailbox.latecomers:
            self._reactor.post(partial(self._bus.admit_latecomers, record.mailbox))
        if record.mailbox.waiting:
            record.mailbox.pump()

    # On the reactor's thread

    def _ask(self, instance: Instance, message: messages.Ask) -> None:
        message.shares = instance.holdings.take(message.shares)
        self._router.ask(instance.record, instance.name, message, partial(_answer, instance, message.id))

    def _cancel(self, instance: Instance, message: messages.Cancel) -> None:
        for call in self._router.forget_request(instance.record, message.id):
            cancel(call)

    def _data(self, instance: Instance, message: messages.Data) -> None:
        result: Any = None
        if message.action == "get":
            value = self._context.get(message.key)
            result = [value.revision, value.data] if value else [0, None]
        elif message.action == "set":
            expect = None if message.expect < 0 else message.expect
            result = self._context.set(instance.name, message.key, message.value, expect)
        else:
            self._context.delete(message.key)
        instance.runner.send(Reply(message.id, Raw(encode_message(result))))

    def _lend(self, instance: Instance, message: messages.AllocateBuffer) -> None:
        lent = self._buffers.lend(instance.holdings, message.size)
        instance.runner.send(Reply(message.id, Raw(encode_message(lent))))

    def _subscribe(self, instance: Instance, message: messages.Subscribe) -> None:
        self._subscribing.subscribe(instance, message.handler)
        _ok(instance, message.id)

    def _unsubscribe(self, instance: Instance, message: messages.Unsubscribe) -> None:
        self._subscribing.unsubscribe(instance, message.number)
        _ok(instance, message.id)

    def _expose(self, instance: Instance, message: messages.Expose) -> None:
        self._subscribing.expose(instance, message.method)
        _ok(instance, message.id)

    def _rejected(self, instance: Instance, message: messages.Rejected) -> None:
        if instance.rejections:
            instance.rejections.popleft()
        letter = instance.record.mailbox.handled(message.seq)
        instance.progress = self._reactor.now()
        if isinstance(letter, EventDelivery):
            failure = message.failure
            reason = (
                f"{failure.type}{reason_suffix(failure.message)}"
                if failure.type
                else str(failure.fields.get("reason", ""))
            )
            where = f" ({failure.where})" if failure.where else ""
            self._witness.bury(letter, reason + where, failure)
        self._bus.admit_latecomers(instance.record.mailbox)
        instance.record.mailbox.pump()

    def _failed(self, instance: Instance, message: messages.Failed) -> None:
        known = OF_LOADING if instance.level in CONFINED else OF_STARTING
        self.failed(instance, messages.Failed(message.phase, as_reported(message.failure, known)))

    def failed(self, instance: Instance, message: messages.Failed) -> None:
        """A step of an instance's life did not succeed, as its host says or as it may say itself."""
        self._witness.failed(instance, message)
        instance.hear(message)

    def _leaving(self, instance: Instance, message: messages.SelfExit) -> None:
        stack = plain_text(message.traceback)
        instance.leaving = Exit(plain_text(message.reason), code=message.code, stack=stack)
        instance.cut = True  # what its other threads still say is said by the dying
        self._witness.leaves(instance)


_LAST_WORDS = 0.5
"""Seconds in which what an instance said before it was decided that it ends is handled. Of one that sends so much that
it takes longer, the rest is not heard."""
_MOST_UNSETTLED = 8 * EMIT_WINDOW
"""Places. An SDK that heeds its credit does not come near, with many threads neither; what is over it does not wait."""
_IN_PLACE = frozenset({messages.Emit, messages.Call, messages.Reply, messages.Done, messages.ReleaseBuffers})
_ASKING = (
    messages.Call, messages.Ask, messages.Data, messages.Subscribe, messages.Unsubscribe, messages.Expose,
    messages.AllocateBuffer,
)  # fmt: skip


def _places(message: messages.Emit) -> int:
    return slots_for(size_of(message.data, message.shares))


def _cut(instance: Instance) -> None:
    instance.cut = True


def _answer(instance: Instance, id: int, reply: Reply) -> None:
    if not instance.cut:
        reply = _with_shares(instance, id, reply) if reply.shares else Reply(id, reply.value, reply.failure)
        instance.runner.send(reply)


def _with_shares(instance: Instance, id: int, reply: Reply) -> Reply:
    try:
        return Reply(id, reply.value, reply.failure, shares=instance.holdings.give(reply.shares))
    except KernelError as error:
        return Reply(id, failure=from_error(error))


def _ok(instance: Instance, id: int) -> None:
    instance.runner.send(Reply(id))
