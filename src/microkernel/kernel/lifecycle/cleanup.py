"""What an instance leaves when it ends: events it had not done, callers that wait for it, calls it waited for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from microkernel.errors import KernelError, PluginNotActive
from microkernel.kernel.messaging.dead_letters import DeadLetters
from microkernel.kernel.messaging.delivery import CallDelivery, Delivery
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.ports import Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.registry.states import cure_of
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.routing.call_table import CallTable
from microkernel.kernel.routing.registration import Registrar
from microkernel.wire import messages


class InstanceCleanup:
    """Called by who holds the record's lock."""

    def __init__(
        self, calls: CallTable, registrar: Registrar, dead_letters: DeadLetters, reactor: Reactor, journal: Journal
    ) -> None:
        self._calls = calls
        self._registrar = registrar
        self._dead_letters = dead_letters
        self._reactor = reactor
        self._journal = journal

    def disconnect(self, record: PluginRecord, reason: str) -> int:
        """What the present instance says no longer counts; its callers are told. Returns how many."""
        instance = record.instance
        if instance is None:
            return 0
        instance.disconnect(self._reactor)
        record.mailbox.paused = True
        deliveries = record.mailbox.recover()
        record.mailbox.requeue([delivery for delivery in deliveries if isinstance(delivery, EventDelivery)])
        return self._calls.drop_callee(record, reason)

    def reclaim_in_flight(
        self, record: PluginRecord, instance: Instance, reason: str, not_started: Sequence[int] = ()
    ) -> list[Delivery]:
        """Take back what the dead instance had not done; tell who waited for it, and whom it waited for. Calls that are
        known to be ``not_started`` can still be answered by another."""
        instance.disconnected = True
        record.mailbox.disconnect()
        deliveries = record.mailbox.recover()
        calls = [one.id for one in deliveries if isinstance(one, CallDelivery) and one.id not in not_started]
        self._calls.drop_callee(record, reason, calls)
        self._calls.drop_caller(record)
        return deliveries

    def transfer_pending(self, record: PluginRecord, old: Instance, stopped: messages.Stopped | None) -> None:
        """What the old generation was given and did not do is the new one's, calls it had not begun too, in order. Who
        waits for an answer of it is told."""
        not_started = [*stopped.not_started, *old.passed] if stopped else []  # what it had begun it has answered by now
        deliveries = self.reclaim_in_flight(record, old, "it was replaced", not_started)
        record.mailbox.requeue(
            [one for one in deliveries if isinstance(one, EventDelivery) or is_call(one, not_started)]
        )

    def requeue(self, record: PluginRecord, deliveries: list[Delivery]) -> int:
        """Events go to the front: how many. Only one that was alone when the death came counts a delivery."""
        events = [delivery for delivery in deliveries if isinstance(delivery, EventDelivery)]
        if len(deliveries) == 1 and events:
            (event,) = events
            if event.delivery < record.manifest.limits.max_deliveries:
                event.delivery += 1
            else:
                self._dead_letters.add(events.pop(), f"{record.name} died over it every time it was delivered")
        for event in events:
            event.redelivered = True
        record.mailbox.requeue(list(events))
        return len(events)

    def report_redelivery(self, record: PluginRecord, count: int) -> None:
        """So many events that were put back are for the next generation."""
        if count:
            self._journal.announce("MK0221", "notice", record.name, generation=record.generation + 1, count=count)

    def discard_pending(self, record: PluginRecord, reason: str, died: Instance | None = None) -> None:
        """It will not handle what waits: events are dead letters, callers are told, what it registered goes. ``died``:
        the instance, if it ended with some of it begun."""
        mailbox = record.mailbox
        if died is not None and died.exit is not None:
            begun = self.reclaim_in_flight(record, died, died.exit.reason)
            mailbox.requeue([delivery for delivery in begun if isinstance(delivery, EventDelivery)])
        mailbox.disconnect()
        left = [*mailbox.recover(), *self._reactor.run(mailbox.drain)]
        for delivery in left:
            if isinstance(delivery, EventDelivery):
                self._dead_letters.add(delivery, reason)
            elif isinstance(delivery, CallDelivery):
                target = f"{record.name}.{delivery.method}"
                cure = cure_of(record.name, record.state)
                stopped = PluginNotActive("MK0213", name=record.name, state=record.state, what=target, cure=cure)
                self._calls.discard(record, delivery.id, stopped)
        self._calls.drop_caller(record)
        self._reactor.run(partial(self._registrar.clear, record))
        mailbox.reopen()  # nothing is subscribed any more: what comes from here on is for its next start

    # The end of a plugin

    def mark_zombie(self, record: PluginRecord, reason: str) -> None:
        """The instance cannot be ended. With the record's lock held."""
        self.disconnect(record, reason)
        record.instance = None
        record.transition("unkillable")
        self.discard_pending(record, f"{record.name} is a zombie")
        self.report_stopped(record)

    def report_stopped(self, record: PluginRecord) -> None:
        """It is stopped, or a zombie."""
        if record.state == "zombie":
            record.error = KernelError("MK0206", reason="it is in code that does not return to Python")
            self._journal.report("error", record.name, record.error)
        else:
            self._journal.announce("MK0219", "notice", record.name)
        self._journal.changed(record)


def is_call(delivery: Delivery, ids: Sequence[int]) -> bool:
    """Whether it is one of these calls."""
    return isinstance(delivery, CallDelivery) and delivery.id in ids
