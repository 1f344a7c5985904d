"""Calls and asks: from a caller to the callee's mailbox, and the answer back. Who waits for whom is known here.

Every pending call is answered, and its first answer counts. It is answered before it is taken out of the table: when a
thread is killed in between, the death of its plugin answers it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count

from microkernel.errors import (
    CallDeadlock,
    CallTimeout,
    KernelError,
    MailboxFull,
    MethodNotFound,
    PluginDied,
    PluginNotActive,
)
from microkernel.kernel.messaging.delivery import CallDelivery, Delivery, EventDelivery
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.quota import weight
from microkernel.kernel.ports import Clock, Reactor, ReplyLane
from microkernel.kernel.registry.record import PluginRecord, Registry, cure_of, did_you_mean
from microkernel.kernel.registry.states import WAITING
from microkernel.kernel.routing.ask import Answer, AskCollector
from microkernel.kernel.routing.deadlock import circle
from microkernel.wire.codec import Struct, field
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Ask, Call, Cancel, Reply
from microkernel.wire.slots import size_of


class PendingCall(Struct, eq=False):
    """A call under way. ``asked`` has the caller's own id of it; ``caller`` None: the embedder. ``lane``: where its
    thread waits, if it reads its answer itself. ``expiry`` takes back the timer of its deadline, where it has one."""

    id: int
    caller: PluginRecord | None
    target: PluginRecord
    asked: Call
    method: str
    answer: Answer
    lane: ReplyLane | None = None
    answered: bool = False
    replies: list[Reply] = field(default_factory=list)
    letter: Delivery | None = None
    expiry: Callable[[], object] | None = None


class CallRouter:
    """``call`` and ``finish`` on any thread, also on one that can be killed; the rest on the reactor's."""

    def __init__(self, registry: Registry, bus: EventBus, reactor: Reactor, clock: Clock) -> None:
        self._registry = registry
        self._bus = bus
        self._reactor = reactor
        self._clock = clock
        self._ids = count(1)
        self._pending: dict[int, PendingCall] = {}

    def call(
        self,
        caller: PluginRecord | None,
        call: Call,
        answer: Answer,
        *,
        direct: bool = False,
        lane: ReplyLane | None = None,
    ) -> PendingCall:
        """Put a call on its way; ``answer`` gets its Reply, on some thread. ``direct``: this one cannot be killed.

        Raises what the caller is to be told at once: PluginNotFound, PluginNotActive, MethodNotFound, CallDeadlock,
        MailboxFull.
        """
        name, _, method = call.target.partition(".")
        target = self._registry.get(name)
        if target.state != "active" or method not in target.methods:
            _check_callable(target, method, caller, is_awaited=name in call.chain)
        pending = PendingCall(next(self._ids), caller, target, call, method, answer, lane)
        try:
            self._add(pending)
            if caller is not None:
                self._refuse_circle(pending, caller)
            if target.incoming.places > target.mailbox.capacity:  # calls do not compete with events for room
                raise MailboxFull("MK0609", name=name, size=len(target.incoming))
            pending.letter = letter = CallDelivery(pending)
            target.counts.calls += 1
            if name in call.chain and _pass(target, letter):
                return pending
            if caller is not None and direct:
                target.mailbox.put_call(letter, caller.name)
            else:  # who may be killed, and the embedder, waited until their events had room
                target.mailbox.put(letter, direct=direct)
        except KernelError:
            self._take(pending.id)
            raise
        except BaseException:  # a kill, or what its thread was sent and will catch. If the callee has it, it is told
            if not target.mailbox.has(pending.letter):
                self._take(pending.id)
            raise
        return pending

    def ask(self, caller: PluginRecord | None, source: str, ask: Ask, answer: Answer) -> None:
        """Give an event to all who listen but the asker, and collect what their handlers return."""
        listeners = [s for s in self._bus.topics.matches[ask.topic] if s.owner != source and s.inline is None]
        gathering = AskCollector([s.owner for s in listeners], answer)
        envelope = self._bus.envelope(source, ask.topic, ask.data)
        size = size_of(envelope, ask.shares)
        call = Call(ask.id, ask.topic, deadline=ask.deadline, slot=ask.slot, chain=ask.chain)
        for index, subscription in enumerate(listeners):
            target = subscription.receiver
            answered = partial(gathering.answered, index)
            pending = PendingCall(next(self._ids), caller, target, call, ask.topic, answered)  # type: ignore[arg-type]
            self._add(pending)
            if target.incoming.places > target.mailbox.capacity:
                self.fail(pending.id, MailboxFull("MK0609", name=subscription.owner, size=len(target.incoming)))
                continue
            letter = EventDelivery(subscription, ask.topic, envelope, size, pending.id, ask.deadline, shares=ask.shares)
            left = max(0.0, ask.deadline - self._clock.now())
            pending.expiry = self._reactor.later(left, partial(self._late, pending.id, subscription.owner, left))
            if not self._bus.offer(letter, source):
                self.fail(pending.id, MailboxFull("MK0609", name=subscription.owner, size=len(target.mailbox)))
        gathering.begun()

    def lane_to(self, target: str) -> ReplyLane | None:
        """A reply lane of the plugin whose method this is, if it is there and has one free."""
        record = self._registry.find(target.partition(".")[0])
        instance = record.instance if record is not None else None
        return instance.runner.lane() if instance is not None else None

    def collect(self, id: int) -> None:
        """The caller has read its answer itself."""
        pending = self._take(id)
        if pending is not None:
            self._done(pending)

    def finish(self, id: int, reply: Reply) -> None:
        """The answer is here. Too late or for the second time, it is dropped."""
        pending = self._pending.get(id)
        if pending is not None:
            pending.replies.append(reply)
            pending.answer(pending.replies[0])
            self._take(id)
            self._done(pending)

    def replied(self, record: PluginRecord, reply: Reply) -> None:
        """A plugin answers one of its calls. It is done with it also when nobody waits for that any more."""
        pending = self._pending.get(reply.id)
        if pending is not None and pending.target is record:  # else it is another's to answer
            self.finish(reply.id, reply)
        if reply.id in record.incoming and (forgotten := record.incoming.remove(reply.id)) is not None:
            self._done(forgotten)

    def fail(self, id: int, error: KernelError) -> None:
        self.finish(id, Reply(id, failure=from_error(error)))

    def forget(self, id: int) -> PendingCall | None:
        """The caller waits no more. Returns what was forgotten; its callee has it until it is done with it."""
        pending = self._pending.get(id)
        return self._take(id, is_kept=pending is not None and pending.letter is not None)

    def forget_request(self, caller: PluginRecord, request: int) -> list[PendingCall]:
        """The same by the caller's own id; an ask has one for each handler."""
        ids = [call.id for call in list(caller.outgoing.values()) if call.asked.id == request]
        return [call for id in ids if (call := self.forget(id)) is not None]

    def died(self, record: PluginRecord, letters: list[Delivery], reason: str) -> int:
        """An instance died: its callers are told. Returns how many."""
        return self._tell(record, [letter.call for letter in letters if isinstance(letter, CallDelivery)], reason)

    def gone(self, record: PluginRecord, reason: str) -> int:
        """It will not come back: all who wait for it are told, also those it has not begun with. Returns how many."""
        return self._tell(record, list(record.incoming.values()), reason)

    def _tell(self, record: PluginRecord, calls: list[PendingCall], reason: str) -> int:
        waiting = [call for call in calls if not call.answered]
        for call in calls:
            target = f"{record.name}.{call.method}"
            self.fail(call.id, PluginDied("MK0214", target=target, name=record.name, reason=reason))
            record.incoming.remove(call.id)
        return len(waiting)

    def caller_gone(self, record: PluginRecord) -> list[PendingCall]:
        """The instance that waited for these is no more."""
        return [call for id in list(record.outgoing) if (call := self.forget(id)) is not None]

    def _add(self, pending: PendingCall) -> None:
        self._pending[pending.id] = pending
        asked = pending.asked
        size = len(asked.args) + len(asked.kwargs) + len(asked.target)
        if len(asked.chain) > _FEW_NAMES:
            size += weight(*asked.chain)
        if asked.shares:
            size += sum(len(share.data) for share in asked.shares)
        pending.target.incoming.add(pending.id, pending, size)
        if pending.caller is not None:
            pending.caller.outgoing[pending.id] = pending

    def _take(self, id: int, *, is_kept: bool = False) -> PendingCall | None:
        """Out of the table, last of all: whoever is killed in here has not taken it. ``is_kept``: by its callee."""
        pending = self._pending.get(id)
        if pending is None:
            return None
        pending.answered = True
        if pending.asked.shares:
            pending.asked.shares = ()  # who has begun with it has them by holds of its own
        if pending.expiry is not None:
            pending.expiry()
        if not is_kept:
            pending.target.incoming.remove(id)
        if pending.caller is not None:
            pending.caller.outgoing.pop(id, None)
        return self._pending.pop(id, None)

    def _done(self, call: PendingCall) -> None:
        if call.target.instance is not None:
            call.target.instance.progress = time.monotonic()
        mailbox = call.target.mailbox
        if call.letter is None:
            return
        mailbox.done(call.letter.seq)
        call.letter = None  # they refer to each other, and to what is attached
        if mailbox.latecomers:
            self._reactor.post(partial(self._bus.admit_latecomers, mailbox))
        if mailbox.waiting:
            mailbox.pump()

    def _late(self, id: int, owner: str, timeout: float) -> None:
        self.fail(id, CallTimeout("MK0606", target=owner, timeout=round(timeout, 3)))

    def _refuse_circle(self, pending: PendingCall, caller: PluginRecord) -> None:
        if pending.asked.slot < 0 or not pending.target.outgoing:
            return  # whom it waits for waits for nobody
        chain = circle(caller.name, self._waits_of, self._capacity_of)
        if chain:
            raise CallDeadlock("MK0607", chain=" -> ".join(chain))

    def _waits_of(self, name: str) -> dict[int, list[str]]:
        waits: dict[int, list[str]] = {}
        if name in self._registry:
            for call in list(self._registry.get(name).outgoing.values()):
                if call.asked.slot >= 0:
                    waits.setdefault(call.asked.slot, []).append(call.target.name)
        return waits

    def _capacity_of(self, name: str) -> int:
        return self._registry.get(name).manifest.concurrency if name in self._registry else 1


_FEW_NAMES = 16
"""Plugins in a call's chain that take no room of their own: they fit its place."""


def _pass(target: PluginRecord, letter: CallDelivery) -> bool:
    """A call that a handler of a retiring instance waits for passes the paused mailbox: else neither could end."""
    instance = target.retiring
    message = letter.message(instance.runner) if instance is not None else None
    if instance is None or message is None or (message.shares and not instance.attach(message, letter)):
        return False
    instance.passed.append(letter.call.id)
    target.mailbox.take_aside(letter)
    instance.runner.send(message)
    return True


def _check_callable(target: PluginRecord, method: str, caller: PluginRecord | None, *, is_awaited: bool) -> None:
    """A plugin that is stopping answers only calls that one of its own handlers waits for (``is_awaited``)."""
    if target.state in WAITING:
        return
    if target.state != "active" and not (target.state == "stopping" and is_awaited):
        what = f"{target.name}.{method}"
        if caller is None and target.error is not None:  # to other plugins, what ails it is nothing
            what = f"{what} ({target.error})"
        cure = cure_of(target.name, target.state)
        raise PluginNotActive("MK0213", name=target.name, state=target.state, what=what, cure=cure)
    if method not in target.methods:
        suggestion = did_you_mean(method, target.methods) if method else "; a target is written plugin.method"
        raise MethodNotFound("MK0604", target=f"{target.name}.{method}".rstrip("."), suggestion=suggestion)


def cancel(call: PendingCall) -> None:
    """Nobody waits for this call any more: the callee is told."""
    callee = call.target.instance
    if callee is not None and not callee.cut:
        callee.runner.send(Cancel(call.id))
