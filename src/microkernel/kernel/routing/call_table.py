"""The calls and asks that are under way, by id.

``complete`` is the one way out of the table: for a reply, a deadline, a cancellation and the death of either side.
Every call is answered, and its first answer counts. It is answered before it is taken out: if a thread is killed in
between, the death of its plugin completes the call again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final, Literal

from microkernel.errors import CallTimeout, KernelError, PluginDied
from microkernel.kernel.messaging.delivery import CallDelivery, Delivery
from microkernel.kernel.messaging.mailbox_owner import MailboxOwner
from microkernel.kernel.messaging.quota import memory_size
from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.record import PluginRecord
from microkernel.wire.codec import Struct, field
from microkernel.wire.failures import from_error
from microkernel.wire.messages import Call, Cancel, Response

Answer = Callable[[Response], object]
Outcome = Response | Literal["collected", "abandoned"]

# The caller has read its reply itself, on a reply lane.
COLLECTED: Final = "collected"
# The caller no longer waits. The callee keeps the call until it is done with it.
ABANDONED: Final = "abandoned"
# Names in a call's chain that take no extra room: they fit its slot.
_FEW_NAMES = 16


class PendingCall(Struct, eq=False):
    """A call under way, or an ask's part for one handler.

    ``caller`` None: the embedding program. ``call`` has the caller's own id of it. ``delivery``: the call in the
    callee's mailbox; an ask has events there instead.
    """

    id: int
    caller: PluginRecord | None
    target: MailboxOwner
    call: Call
    method: str
    answer: Answer
    delivery: CallDelivery | None = None
    cancel_timer: Callable[[], object] | None = None
    is_answered: bool = False
    replies: list[Response] = field(default_factory=list)


class CallTable:
    """Calls under way. ``add`` and ``complete`` may be called on any thread, including one that can be killed; the rest
    on the reactor's."""

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._ids = count(1)
        self.pending: dict[int, PendingCall] = {}

    def next_id(self) -> int:
        return next(self._ids)

    def add(self, pending: PendingCall) -> None:
        """Add a call, and charge it to the callee's table."""
        self.pending[pending.id] = pending
        call = pending.call
        size = len(call.args) + len(call.kwargs) + len(call.target)
        if len(call.chain) > _FEW_NAMES:
            size += memory_size(*call.chain)
        if call.shares:
            size += sum(len(share.data) for share in call.shares)
        pending.target.incoming.add(pending.id, None, size)
        if pending.caller is not None:
            pending.caller.outgoing[pending.id] = None

    def sending(self, pending: PendingCall, delivery: CallDelivery) -> None:
        """Note the delivery of a call, which is about to be put into the callee's mailbox."""
        pending.delivery = delivery
        pending.target.incoming[pending.id] = delivery

    def set_deadline(self, pending: PendingCall, owner: str, deadline: float) -> None:
        """Answer with CallTimeout at the deadline (monotonic)."""
        left = max(0.0, deadline - self._clock.now())
        pending.cancel_timer = self._reactor.later(left, partial(self._expire, pending.id, owner, left))

    def _expire(self, id: int, owner: str, timeout: float) -> None:
        self.fail(id, CallTimeout("MK0606", target=owner, timeout=round(timeout, 3)))

    def complete(self, id: int, outcome: Outcome) -> PendingCall | None:
        """End a call with this outcome. Return None, and do nothing, if it has ended already.

        It leaves the table last of all: a thread that is killed in here has not completed it.
        """
        pending = self.pending.get(id)
        if pending is None:
            return None
        if isinstance(outcome, Response):
            pending.replies.append(outcome)
            pending.answer(pending.replies[0])
        pending.is_answered = True
        if pending.delivery is not None:
            pending.delivery.is_answered = True
        if pending.call.shares:
            pending.call.shares = ()  # a callee that has started with it holds them by itself
        if pending.cancel_timer is not None:
            pending.cancel_timer()
        target, delivery = pending.target, None
        if outcome != ABANDONED or target.incoming.get(id) is None:
            delivery = target.incoming.remove(id)
        if pending.caller is not None:
            pending.caller.outgoing.pop(id, None)
        self.pending.pop(id, None)
        if delivery is not None:
            self._finish(target, delivery)
        return pending

    def fail(self, id: int, error: KernelError) -> None:
        self.complete(id, Response(id, failure=from_error(error)))

    def reply(self, callee: MailboxOwner, reply: Response) -> None:
        """A callee answers. It is done with the call also when the caller no longer waits."""
        pending = self.pending.get(reply.id)
        if pending is not None and pending.target is callee:  # else it is another's to answer
            self.complete(reply.id, reply)
        if reply.id in callee.incoming and (delivery := callee.incoming.remove(reply.id)) is not None:
            self._finish(callee, delivery)

    def abandon(self, id: int) -> None:
        """Abandon a call whose caller no longer waits: send a Cancel to the callee."""
        pending = self.complete(id, ABANDONED)
        if pending is not None:
            pending.target.send(Cancel(id))

    def abandon_request(self, caller: PluginRecord, request: int) -> None:
        """Abandon a request by the caller's own id. An ask has one call for each handler."""
        for id in list(caller.outgoing):
            pending = self.pending.get(id)
            if pending is not None and pending.call.id == request:
                self.abandon(id)

    def drop_caller(self, record: PluginRecord) -> None:
        """Abandon the calls of an instance that has ended."""
        for id in list(record.outgoing):
            self.abandon(id)

    def drop_callee(self, record: PluginRecord, reason: str, ids: Sequence[int] | None = None) -> int:
        """Fail these calls to a callee that has died, or all calls to it. Return how many callers waited."""
        waiting = 0
        for id in list(record.incoming) if ids is None else ids:
            pending = self.pending.get(id)
            if pending is not None:
                waiting += not pending.is_answered
                target = f"{record.name}.{pending.method}"
                self.fail(id, PluginDied("MK0214", target=target, name=record.name, reason=reason))
            record.incoming.remove(id)
        return waiting

    def discard(self, record: PluginRecord, id: int, error: KernelError) -> None:
        """Discard a call that the callee will not handle, including one that its caller has abandoned."""
        self.fail(id, error)
        record.incoming.remove(id)

    def waits_of(self, record: PluginRecord) -> dict[int, list[str]]:
        """Return, for each of its handler threads that waits, the plugins that it waits for."""
        waits: dict[int, list[str]] = {}
        for id in list(record.outgoing):
            pending = self.pending.get(id)
            if pending is not None and pending.call.slot >= 0:
                waits.setdefault(pending.call.slot, []).append(pending.target.name)
        return waits

    def _finish(self, callee: MailboxOwner, delivery: Delivery) -> None:
        """Remove a finished delivery from the callee's mailbox, and let the next deliveries in."""
        mailbox = callee.mailbox
        mailbox.progress = time.monotonic()
        mailbox.done(delivery.seq)
        if mailbox.blocked_sends:
            self._reactor.post(mailbox.admit_blocked)
        if mailbox.waiting:
            mailbox.pump()
