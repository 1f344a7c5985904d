"""The dead letters of all plugins: list, replay, drop."""

from __future__ import annotations

from functools import partial
from typing import Any

from microkernel.errors import KernelError
from microkernel.kernel.messaging.delivery import EventDelivery
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.registry.record import DeadLetter, PluginRecord, Registry
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.reporting.plugin_info import ShownValues
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.wire import codec
from microkernel.wire.slots import size_of


class DeadLetterService:
    """A part of the service `kernel`."""

    registry: Registry
    bus: EventBus
    reactor: Reactor
    journal: Journal

    def dead(self, name: str = "") -> list[dict[str, Any]]:
        """Those that are on their way into the records are among them: whoever made one sees it at once."""
        letters = {id: letter for id, letter in self.journal.arriving.copy().items() if name in ("", letter.plugin)}
        for record in [self.registry.get(name)] if name else [*self.registry]:
            letters |= {letter.id: letter for letter in [*record.dead_letters]}
        shown = ShownValues()
        return [_shown(letters[id], shown) for id in sorted(letters, reverse=True)][::-1]  # room for the newest first

    def replay(self, letter: int) -> bool:
        """Give a dead letter to its handler again. Raises KernelError if there is no such letter or handler."""
        record, dead = self.reactor.run(partial(self._find_letter, letter))
        for subscription in list(record.subscriptions.values()):
            if subscription.handler == dead.handler and not subscription.board:
                envelope = self.bus.envelope(dead.source, dead.topic, codec.Raw(dead.data))
                self.drop(letter)
                size = size_of(envelope, dead.shares)
                self.bus.offer(EventDelivery(subscription, dead.topic, envelope, size, shares=dead.shares), "kernel")
                return True
        raise KernelError("MK0613", handler=dead.handler, topic=dead.topic, reason="it is gone", letter=letter)

    def drop(self, letter: int) -> bool:
        self.reactor.run(partial(self._drop, letter))
        return True

    def _drop(self, letter: int) -> None:
        record, dead = self._find_letter(letter)
        record.dead_letters.remove(dead)

    def _find_letter(self, id: int) -> tuple[PluginRecord, DeadLetter]:
        for record in self.registry:
            for dead in [*record.dead_letters]:
                if dead.id == id:
                    return record, dead
        raise KernelError("MK0614", letter=id)


def _shown(letter: DeadLetter, shown: ShownValues) -> dict[str, Any]:
    fields = ("id", "plugin", "handler", "topic", "source", "time", "delivery", "reason", "traceback")
    told = {name: getattr(letter, name) for name in fields}
    if not shown.has_room(letter.plugin, len(letter.reason) + len(letter.traceback)):
        told |= {"reason": letter.reason[:_SHORT], "traceback": ""}
    attached = [f"<Buffer of {share.size:,} bytes>" for share in letter.shares]
    return told | {"data": shown.value(letter.plugin, letter.data, attached)}


# Characters of a reason for which there is no room left.
_SHORT = 200
