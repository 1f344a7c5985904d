"""Entry of messages from instances into the kernel: through the gate, to the bus, the router or the shared data.

It runs on the thread that received the message. A plugin's own thread may be killed at any bytecode, so only operations
that change the kernel by single C calls run there (emit, call, reply, done); the others are posted to the reactor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from microkernel.errors import KernelError, PermissionDenied
from microkernel.kernel.admission import gate
from microkernel.kernel.admission.permissions import CONFINED
from microkernel.kernel.messaging.buffers import BufferPool
from microkernel.kernel.messaging.dead_letters import DeadLetters
from microkernel.kernel.messaging.delivery import CallDelivery, Delivery
from microkernel.kernel.messaging.event_bus import ON_PLUGIN_THREAD, ON_REACTOR, ON_REACTOR_UNWAITING, EventBus
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.ports import Exit, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.routing.call_router import CallRouter
from microkernel.kernel.routing.call_table import CallTable
from microkernel.kernel.routing.data_store import DataStore
from microkernel.kernel.routing.direct_channels import DirectChannels
from microkernel.kernel.routing.registration import Registrar
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode_message, plain_text
from microkernel.wire.failures import OF_LOADING, OF_REPLIES, OF_STARTING, as_reported, from_error, reason_suffix
from microkernel.wire.messages import Response
from microkernel.wire.slots import EMIT_WINDOW, size_of, slots_for

Handler = Callable[[PluginRecord, Instance, Any], object]

# Most slots of waiting emits. An SDK that respects its credit does not reach it, even with many threads. Emits above it
# do not wait.
_MAX_UNSETTLED = 8 * EMIT_WINDOW
_INLINE_TYPES = frozenset({messages.Emit, messages.Call, messages.Response, messages.Done, messages.ReleaseBuffers})
_REQUEST_TYPES = (
    messages.Call, messages.Ask, messages.Data, messages.Subscribe, messages.Unsubscribe, messages.Expose,
    messages.AllocateBuffer,
)  # fmt: skip


class PluginIngress:
    """InstanceObserver of the instances of one plugin and their runners. On any thread."""

    def __init__(self, record: PluginRecord, ingress: Ingress) -> None:
        self._record = record
        self._ingress = ingress
        self._handlers = ingress.handlers

    def on_message(self, instance: Instance, message: messages.Message) -> None:
        if instance.on_own_thread and (instance.rejections or type(message) not in _INLINE_TYPES):
            self._receive_later(instance, message)
        else:
            self._dispatch(instance, message)

    def _receive_later(self, instance: Instance, message: messages.Message) -> None:
        """Handle a message on the reactor's thread.

        A response does not overtake the rejection of an earlier event, so a caller that has the response also sees the
        dead letter.
        """
        if instance.disconnected:
            return
        if type(message) is messages.Rejected:
            instance.rejections.append(message.seq)
        elif type(message) in _INLINE_TYPES and type(message) is not Response:
            self._dispatch(instance, message)
            return
        self._ingress.reactor.post(partial(self._dispatch, instance, message))

    def _dispatch(self, instance: Instance, message: messages.Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is None or instance.disconnected:
            return  # a message meant for instances, or one from a disconnected instance
        try:
            gate.admit(instance.name, instance.permissions, message)
            handler(self._record, instance, message)
        except KernelError as error:
            self._ingress.refuse(self._record, instance, message, error)

    def on_failed(self, instance: Instance, message: messages.Failed) -> None:
        self._ingress.failed(self._record, instance, message)

    def on_output(self, instance: Instance, stream: str, line: str) -> None:
        self._ingress.journal.output(self._record, stream, line)

    def on_exit(self, instance: Instance, exit: Exit) -> None:
        self._record.previous_instances.append(instance)
        self._ingress.direct.end(instance, exit.reason)
        self._ingress.reactor.post(self._ingress.buffers.sweep)

    def on_undeliverable(self, delivery: Delivery, error: KernelError) -> None:
        if isinstance(delivery, CallDelivery):
            self._ingress.calls.fail(delivery.id, error)
        elif isinstance(delivery, EventDelivery):
            self._ingress.dead_letters.add(delivery, error.text)

    def on_unwanted(self, delivery: Delivery) -> None:
        if isinstance(delivery, CallDelivery):
            self._record.incoming.remove(delivery.id)
            if delivery.lane is not None:
                delivery.lane.drop()
        elif isinstance(delivery, EventDelivery):
            self._ingress.dead_letters.add(delivery, "the present generation has no such handler")


class Ingress:
    """Handles the messages of all plugins. ``observe`` returns the observer for the instances of one plugin."""

    def __init__(
        self,
        bus: EventBus,
        router: CallRouter,
        calls: CallTable,
        data: DataStore,
        registrar: Registrar,
        buffers: BufferPool,
        reactor: Reactor,
        journal: Journal,
        dead_letters: DeadLetters,
        direct: DirectChannels,
    ) -> None:
        self._bus = bus
        self._router = router
        self.calls = calls
        self._data_store = data
        self._registrar = registrar
        self.buffers = buffers
        self.reactor = reactor
        self.journal = journal
        self.dead_letters = dead_letters
        self.direct = direct
        self.handlers: Mapping[type, Handler] = {
            messages.Emit: self._emit,
            messages.Call: self._call,
            messages.Response: self._reply,
            messages.Done: self._done,
            messages.Ask: self._ask,
            messages.Cancel: self._cancel,
            messages.Data: self._data,
            messages.Subscribe: self._subscribe,
            messages.Unsubscribe: self._unsubscribe,
            messages.AllocateBuffer: self._allocate_buffer,
            messages.ReleaseBuffers: self._release_buffers,
            messages.Expose: self._expose,
            messages.Rejected: self._rejected,
            messages.Log: self._log,
            messages.Ping: self._ping,
            messages.Pong: self._pong,
            messages.SelfExit: self._self_exit,
            messages.Loaded: self._push_event,
            messages.Started: self._push_event,
            messages.Stopped: self._push_event,
            messages.Exported: self._push_event,
            messages.Failed: self._failed,
            messages.DirectStatus: self._direct_status,
            messages.DirectAdopt: self._direct_adopt,
            messages.DirectReply: self._direct_reply,
            messages.DirectReturn: self._direct_return,
        }

    def observe(self, record: PluginRecord) -> PluginIngress:
        return PluginIngress(record, self)

    def refuse(self, record: PluginRecord, instance: Instance, message: messages.Message, error: KernelError) -> None:
        """Reject a message, which has no effect: answer with an error, or report it."""
        if isinstance(message, _REQUEST_TYPES):
            instance.runner.send(Response(message.id, failure=from_error(error)))
        elif isinstance(message, Response):
            self.calls.reply(record, Response(message.id, failure=from_error(error)))
            self._report_refusal(record, error)
        elif isinstance(error, PermissionDenied) or isinstance(message, messages.Emit):
            self._report_refusal(record, error)
            instance.give_credit(_slots(message) if isinstance(message, messages.Emit) else 1)

    def _report_refusal(self, record: PluginRecord, error: KernelError) -> None:
        """Report in place on the reactor's thread, so that it uses up the turn of the plugin that caused it."""
        self.reactor.submit(partial(self.journal.on_refused, record, error))

    # In place: each changes the kernel by single C calls

    def _emit(self, record: PluginRecord, instance: Instance, message: messages.Emit) -> None:
        if message.shares:
            message.shares = instance.account.take(message.shares)
        record.counts.emitted += 1
        if instance.on_own_thread:
            self._bus.emit(instance.name, message.topic, message.data, message.shares, mode=ON_PLUGIN_THREAD)
        else:
            slots = _slots(message)
            instance.unsettled += slots
            mode = ON_REACTOR if instance.unsettled <= _MAX_UNSETTLED else ON_REACTOR_UNWAITING
            settled = partial(instance.on_settled, slots)
            self._bus.emit(instance.name, message.topic, message.data, message.shares, mode=mode, on_settled=settled)

    def _call(self, record: PluginRecord, instance: Instance, message: messages.Call) -> None:
        if message.shares:
            message.shares = instance.account.take(message.shares)
        answer = partial(_answer, instance, message.id)
        self._router.call(record, message, answer, direct=not instance.on_own_thread)
        if instance.may_call_directly:
            self.direct.count(record, instance, message)

    def _reply(self, record: PluginRecord, instance: Instance, message: Response) -> None:
        if message.shares:
            message.shares = instance.account.take(message.shares)
        if message.failure is not None:
            message.failure = as_reported(message.failure, OF_REPLIES)
        self.calls.reply(record, message)

    def _release_buffers(self, record: PluginRecord, instance: Instance, message: messages.ReleaseBuffers) -> None:
        instance.account.release(message.holds)

    def _done(self, record: PluginRecord, instance: Instance, message: messages.Done) -> None:
        record.mailbox.progress = time.monotonic()
        record.counts.events += record.mailbox.handled_all(message.seqs)
        if record.mailbox.blocked_sends:
            self.reactor.post(record.mailbox.admit_blocked)
        if record.mailbox.waiting:
            record.mailbox.pump()

    # On the reactor's thread

    def _ask(self, record: PluginRecord, instance: Instance, message: messages.Ask) -> None:
        message.shares = instance.account.take(message.shares)
        self._router.ask(record, instance.name, message, partial(_answer, instance, message.id))

    def _cancel(self, record: PluginRecord, instance: Instance, message: messages.Cancel) -> None:
        self.calls.abandon_request(record, message.id)

    def _data(self, record: PluginRecord, instance: Instance, message: messages.Data) -> None:
        result: Any = None
        if message.action == "get":
            value = self._data_store.get(message.key)
            result = [value.revision, value.data] if value else [0, None]
        elif message.action == "set":
            expect = None if message.expect < 0 else message.expect
            result = self._data_store.set(instance.name, message.key, message.value, expect)
        else:
            self._data_store.delete(message.key)
        instance.runner.send(Response(message.id, Raw(encode_message(result))))

    def _allocate_buffer(self, record: PluginRecord, instance: Instance, message: messages.AllocateBuffer) -> None:
        lent = self.buffers.allocate(instance.account, message.size, ahead=message.ahead)
        instance.runner.send(Response(message.id, Raw(encode_message(lent))))

    def _subscribe(self, record: PluginRecord, instance: Instance, message: messages.Subscribe) -> None:
        self._registrar.subscribe(record, instance, message.handler)
        _ok(instance, message.id)

    def _unsubscribe(self, record: PluginRecord, instance: Instance, message: messages.Unsubscribe) -> None:
        self._registrar.unsubscribe(record, instance, message.number)
        _ok(instance, message.id)

    def _expose(self, record: PluginRecord, instance: Instance, message: messages.Expose) -> None:
        self._registrar.expose(record, instance, message.method)
        _ok(instance, message.id)

    def _rejected(self, record: PluginRecord, instance: Instance, message: messages.Rejected) -> None:
        if instance.rejections:
            instance.rejections.popleft()
        delivery = record.mailbox.handled(message.seq)
        record.mailbox.progress = time.monotonic()
        if isinstance(delivery, EventDelivery):
            failure = message.failure
            reason = (
                f"{failure.type}{reason_suffix(failure.message)}"
                if failure.type
                else str(failure.fields.get("reason", ""))
            )
            where = f" ({failure.where})" if failure.where else ""
            self.dead_letters.add(delivery, reason + where, failure)
        record.mailbox.admit_blocked()
        record.mailbox.pump()

    def _failed(self, record: PluginRecord, instance: Instance, message: messages.Failed) -> None:
        known = OF_LOADING if instance.level in CONFINED else OF_STARTING
        self.failed(record, instance, messages.Failed(message.phase, as_reported(message.failure, known)))

    def failed(self, record: PluginRecord, instance: Instance, message: messages.Failed) -> None:
        """Handle a lifecycle phase that failed, as reported by the host or by the instance itself."""
        self.journal.failed(record, message)
        instance.push_event(message)

    def _self_exit(self, record: PluginRecord, instance: Instance, message: messages.SelfExit) -> None:
        stack = plain_text(message.traceback)
        instance.pending_exit = Exit(plain_text(message.reason), code=message.code, stack=stack)
        instance.disconnected = True  # ignore messages that its other threads send while it exits
        instance.owner.on_self_exit(instance)

    def _log(self, record: PluginRecord, instance: Instance, message: messages.Log) -> None:
        self.journal.on_log(record, message)

    def _ping(self, record: PluginRecord, instance: Instance, message: messages.Ping) -> None:
        instance.runner.send(messages.Pong(message.id))

    def _pong(self, record: PluginRecord, instance: Instance, message: messages.Pong) -> None:
        instance.owner.on_pong(instance)

    def _direct_status(self, record: PluginRecord, instance: Instance, message: messages.DirectStatus) -> None:
        self.direct.on_status(instance, message)

    def _direct_adopt(self, record: PluginRecord, instance: Instance, message: messages.DirectAdopt) -> None:
        self.direct.on_adopt(instance, message)

    def _direct_reply(self, record: PluginRecord, instance: Instance, message: messages.DirectReply) -> None:
        self.direct.on_reply(instance, message)

    def _direct_return(self, record: PluginRecord, instance: Instance, message: messages.DirectReturn) -> None:
        self.direct.on_return(instance, message)

    def _push_event(self, record: PluginRecord, instance: Instance, message: Any) -> None:
        instance.push_event(message)


def _slots(message: messages.Emit) -> int:
    return slots_for(size_of(message.data, message.shares))


def _answer(instance: Instance, id: int, reply: Response) -> None:
    if not instance.disconnected:
        reply = _with_shares(instance, id, reply) if reply.shares else Response(id, reply.value, reply.failure)
        instance.runner.send(reply)


def _with_shares(instance: Instance, id: int, reply: Response) -> Response:
    try:
        return Response(id, reply.value, reply.failure, shares=instance.account.give(reply.shares))
    except KernelError as error:
        return Response(id, failure=from_error(error))


def _ok(instance: Instance, id: int) -> None:
    instance.runner.send(Response(id))
