"""Clean up after an instance: events that it had not finished, callers that wait for it, calls it waited for."""

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
from microkernel.kernel.routing.direct_channels import DirectChannels
from microkernel.kernel.routing.registration import Registrar
from microkernel.wire import messages


class InstanceCleanup:
    """Cleans up after instances. Called with the record's lock held."""

    def __init__(
        self,
        calls: CallTable,
        direct: DirectChannels,
        registrar: Registrar,
        dead_letters: DeadLetters,
        reactor: Reactor,
        journal: Journal,
    ) -> None:
        self._calls = calls
        self._direct = direct
        self._registrar = registrar
        self._dead_letters = dead_letters
        self._reactor = reactor
        self._journal = journal

    def disconnect(self, record: PluginRecord, reason: str) -> int:
        """Ignore the present instance from now on, and fail its callers. Return how many waited."""
        instance = record.instance
        if instance is None:
            return 0
        instance.disconnect(self._reactor)
        self._direct.end(instance, reason)
        record.mailbox.paused = True
        deliveries = record.mailbox.recover()
        record.mailbox.requeue([delivery for delivery in deliveries if isinstance(delivery, EventDelivery)])
        return self._calls.drop_callee(record, reason)

    def reclaim_in_flight(
        self, record: PluginRecord, instance: Instance, reason: str, not_started: Sequence[int] = ()
    ) -> list[Delivery]:
        """Remove and return the unfinished deliveries of an ended instance. Fail its callers, and abandon its calls.

        Calls known to be ``not_started`` are kept, because the next instance can still answer them.
        """
        instance.disconnected = True
        record.mailbox.disconnect()
        deliveries = record.mailbox.recover()
        calls = [one.id for one in deliveries if isinstance(one, CallDelivery) and one.id not in not_started]
        self._calls.drop_callee(record, reason, calls)
        self._calls.drop_caller(record)
        return deliveries

    def transfer_pending(self, record: PluginRecord, old: Instance, stopped: messages.Stopped | None) -> None:
        """Requeue the unfinished deliveries of the old generation for the new one, in order: events, and calls that it
        had not started. Fail the callers of the others."""
        not_started = [*stopped.not_started, *old.passed] if stopped else []  # it has answered those it had started
        deliveries = self.reclaim_in_flight(record, old, "it was replaced", not_started)
        record.mailbox.requeue(
            [one for one in deliveries if isinstance(one, EventDelivery) or is_call(one, not_started)]
        )

    def requeue(self, record: PluginRecord, deliveries: list[Delivery]) -> int:
        """Requeue events, and return how many. Only an event that was in flight alone is charged a delivery."""
        events = [delivery for delivery in deliveries if isinstance(delivery, EventDelivery)]
        if len(deliveries) == 1 and events:
            (event,) = events
            if event.delivery < record.manifest.limits.max_deliveries:
                event.delivery += 1
            else:
                self._dead_letters.add(events.pop(), f"{record.name} died each time it handled the event")
        for event in events:
            event.redelivered = True
        record.mailbox.requeue(list(events))
        return len(events)

    def report_redelivery(self, record: PluginRecord, count: int) -> None:
        """Report how many events the next generation will get again."""
        if count:
            self._journal.announce("MK0221", "notice", record.name, generation=record.generation + 1, count=count)

    def discard_pending(self, record: PluginRecord, reason: str, died: Instance | None = None) -> None:
        """Discard pending deliveries: events become dead letters, callers get an error, registrations are removed.

        ``died``: the instance, if it died while it was being drained.
        """
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
                self._refuse(record, delivery)
        self._calls.drop_caller(record)
        self._reactor.run(partial(self._registrar.clear, record))
        mailbox.reopen()  # nothing is subscribed by now, so later deliveries are for its next start

    def refuse_calls(self, record: PluginRecord) -> None:
        """Fail the callers that wait for a plugin which is not ready. Its events stay queued, in order."""
        left = [*record.mailbox.recover(), *self._reactor.run(record.mailbox.drain)]
        record.mailbox.requeue([delivery for delivery in left if isinstance(delivery, EventDelivery)])
        for delivery in left:
            if isinstance(delivery, CallDelivery):
                self._refuse(record, delivery)
        self._calls.drop_caller(record)

    def _refuse(self, record: PluginRecord, delivery: CallDelivery) -> None:
        what = f"{record.name}.{delivery.method} cannot be called"
        cure = cure_of(record.name, record.state)
        stopped = PluginNotActive("MK0213", name=record.name, state=record.state, what=what, cure=cure)
        self._calls.discard(record, delivery.id, stopped)

    # The end of a plugin

    def mark_zombie(self, record: PluginRecord, reason: str) -> None:
        """Mark a plugin whose instance cannot be ended."""
        self.disconnect(record, reason)
        record.instance = None
        record.transition("unkillable")
        self.discard_pending(record, f"{record.name} is a zombie")
        self.report_stopped(record)

    def report_stopped(self, record: PluginRecord) -> None:
        """Report that a plugin is stopped, or a zombie."""
        if record.state == "zombie":
            record.error = KernelError("MK0206", reason="it is in code that does not return to Python")
            self._journal.report("error", record.name, record.error)
        else:
            self._journal.announce("MK0219", "notice", record.name)
        self._journal.changed(record)


def is_call(delivery: Delivery, ids: Sequence[int]) -> bool:
    """Return whether a delivery is one of these calls."""
    return isinstance(delivery, CallDelivery) and delivery.id in ids
