"""Calls and asks, from a caller to the callee's mailbox. ``call_table`` has those that are under way."""

from __future__ import annotations

from functools import partial
from itertools import islice

from microkernel.errors import CallDeadlock, KernelError, MailboxFull, MethodNotFound, PluginNotActive
from microkernel.kernel.admission.gate import KERNEL_TOPICS
from microkernel.kernel.messaging.delivery import CallDelivery
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.ports import ReplyLane
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.registry.states import CALLS_WAIT, cure_of
from microkernel.kernel.registry.suggestions import did_you_mean
from microkernel.kernel.routing.ask import AskCollector
from microkernel.kernel.routing.call_table import COLLECTED, Answer, CallTable, PendingCall
from microkernel.kernel.routing.deadlock import find_cycle
from microkernel.kernel.routing.service_queue import ServiceQueue
from microkernel.wire.messages import Ask, Call
from microkernel.wire.slots import size_of

# Bounds of the list of methods in an error: methods and characters.
_MOST_LISTED = 8
_LONGEST_LIST = 200


class CallRouter:
    """``call`` on any thread, also on one that can be killed; the rest on the reactor's.

    Calls of the embedding program and of plugins take the same way through here.
    """

    def __init__(self, registry: Registry, bus: EventBus, calls: CallTable, service: ServiceQueue) -> None:
        self._registry = registry
        self._bus = bus
        self._calls = calls
        self._service = service

    def call(
        self,
        caller: PluginRecord | None,
        call: Call,
        answer: Answer,
        *,
        direct: bool = False,
        lane: ReplyLane | None = None,
    ) -> int:
        """Send a call to its callee, or to the kernel's service. ``answer`` gets the Response, on some thread.

        ``direct``: this thread cannot be killed. Return the call's id; 0 for a call to the service, which cannot be
        abandoned. Raises at once PluginNotFound, PluginNotActive, MethodNotFound,
        CallDeadlock, MailboxFull.
        """
        if call.target.startswith(KERNEL_TOPICS):
            self._service.put(call, answer)
            return 0
        name, _, method = call.target.partition(".")
        target = self._registry.get(name)
        if target.state != "active" or method not in target.methods:
            _check_callable(target, method, caller, is_awaited=name in call.chain)
        pending = PendingCall(self._calls.next_id(), caller, target, call, method, answer)
        try:
            self._calls.add(pending)
            if caller is not None:
                self._reject_cycle(call, target, caller)
            if target.incoming.slots > target.mailbox.capacity:  # calls do not compete with events for room
                raise MailboxFull("MK0609", name=name, size=len(target.incoming))
            delivery = CallDelivery(pending.id, call, method, lane)
            self._calls.sending(pending, delivery)
            target.counts.calls += 1
            if name in call.chain and self._let_pass(target, delivery):
                return pending.id
            if caller is not None and direct:
                target.mailbox.put_call(delivery, caller.name)
            else:  # a thread that may be killed, and the embedder, waited until their events had room
                target.mailbox.put(delivery, direct=direct)
        except KernelError:
            self._calls.complete(pending.id, COLLECTED)
            raise
        except BaseException:
            # A kill, or an exception that was injected into the thread, which will catch it. If the callee has the
            # call, its reply completes it.
            if not target.mailbox.has(pending.delivery):
                self._calls.complete(pending.id, COLLECTED)
            raise
        return pending.id

    def adopt(
        self, caller: PluginRecord, target: PluginRecord, call: Call, answer: Answer, *, refuse_cycle: bool
    ) -> PendingCall:
        """Enter a call that its callee has received by itself. Raises CallDeadlock if ``refuse_cycle``. On the
        reactor's thread."""
        method = call.target.partition(".")[2]
        pending = PendingCall(self._calls.next_id(), caller, target, call, method, answer)
        delivery = CallDelivery(pending.id, call, method)
        self._calls.add(pending)
        try:
            if refuse_cycle:
                self._reject_cycle(call, target, caller)
        except CallDeadlock:
            self._calls.complete(pending.id, COLLECTED)
            raise
        self._calls.sending(pending, delivery)
        target.mailbox.take_direct(delivery)
        return pending

    def requeue(self, pending: PendingCall) -> None:
        """Put an adopted call into its callee's mailbox, because the callee has not received it after all."""
        mailbox, delivery = pending.target.mailbox, pending.delivery
        if delivery is None or mailbox.done(delivery.seq) is None:
            return  # the end of the callee was handled first, and has answered it
        pending.target.counts.calls += 1
        mailbox.put(delivery, direct=True)

    def ask(self, caller: PluginRecord | None, source: str, ask: Ask, answer: Answer) -> None:
        """Deliver an event to all subscribers except the asker, and collect the results of their handlers."""
        listeners = [s for s in self._bus.topics.matches[ask.topic] if s.owner != source and s.inline is None]
        collector = AskCollector([s.owner for s in listeners], answer)
        envelope = self._bus.envelope(source, ask.topic, ask.data)
        size = size_of(envelope, ask.shares)
        call = Call(ask.id, ask.topic, deadline=ask.deadline, slot=ask.slot, chain=ask.chain)
        for index, subscription in enumerate(listeners):
            target = subscription.receiver
            answered = partial(collector.answered, index)
            pending = PendingCall(self._calls.next_id(), caller, target, call, ask.topic, answered)
            self._calls.add(pending)
            if target.incoming.slots > target.mailbox.capacity:
                error = MailboxFull("MK0609", name=subscription.owner, size=len(target.incoming))
                self._calls.fail(pending.id, error)
                continue
            delivery = EventDelivery(
                subscription, ask.topic, envelope, size, pending.id, ask.deadline, shares=ask.shares
            )
            self._calls.set_deadline(pending, subscription.owner, ask.deadline)
            if not self._bus.offer(delivery, source):
                error = MailboxFull("MK0609", name=subscription.owner, size=len(target.mailbox))
                self._calls.fail(pending.id, error)
        collector.expect()

    def lane_to(self, target: str) -> ReplyLane | None:
        """Return a reply lane of the plugin whose method this is, if it is there and has one free."""
        record = self._registry.find(target.partition(".")[0])
        instance = record.instance if record is not None else None
        return instance.runner.lane() if instance is not None else None

    def _let_pass(self, target: PluginRecord, delivery: CallDelivery) -> bool:
        """Let a call that a handler of a retiring instance waits for pass the paused mailbox. Otherwise neither could
        end. Return whether that was so."""
        instance = target.retiring
        message = delivery.message(instance.runner) if instance is not None else None
        if instance is None or message is None:
            return False
        if message.shares and not instance.give_shares(message, delivery):
            return False
        instance.passed.append(delivery.id)
        target.mailbox.take_direct(delivery)
        instance.runner.send(message)
        return True

    def _reject_cycle(self, call: Call, target: PluginRecord, caller: PluginRecord) -> None:
        if call.slot < 0 or not target.outgoing:
            return  # the callee waits for no one
        chain = find_cycle(caller.name, self._waits_of, self._capacity_of)
        if chain:
            raise CallDeadlock("MK0607", chain=" -> ".join(chain))

    def _waits_of(self, name: str) -> dict[int, list[str]]:
        return self._calls.waits_of(self._registry.get(name)) if name in self._registry else {}

    def _capacity_of(self, name: str) -> int:
        return self._registry.get(name).manifest.concurrency if name in self._registry else 1


def _check_callable(target: PluginRecord, method: str, caller: PluginRecord | None, *, is_awaited: bool) -> None:
    """A plugin that is stopping answers only calls that one of its handlers waits for (``is_awaited``)."""
    if target.state in CALLS_WAIT:
        return
    if target.state != "active" and not (target.state == "stopping" and is_awaited):
        what = f"{target.name}.{method} cannot be called"
        if caller is None and target.error is not None:  # other plugins have no use for the reason
            what = f"{what} ({target.error})"
        cure = cure_of(target.name, target.state)
        raise PluginNotActive("MK0213", name=target.name, state=target.state, what=what, cure=cure)
    if method not in target.methods:
        suggestion = _suggest(target, method) if method else "; a target is written plugin.method"
        raise MethodNotFound("MK0604", target=f"{target.name}.{method}".rstrip("."), suggestion=suggestion)


def _suggest(target: PluginRecord, method: str) -> str:
    """Return the method that was probably meant; else the methods of the plugin if they are few."""
    if not target.methods:
        return f"; {target.name} exposes no methods"
    if near := did_you_mean(method, target.methods):
        return near
    names = ", ".join(islice(target.methods, _MOST_LISTED))
    if len(target.methods) > _MOST_LISTED or len(names) > _LONGEST_LIST:
        return f"; mk info {target.name} lists its methods"
    return f"; the methods of {target.name}: {names}"
