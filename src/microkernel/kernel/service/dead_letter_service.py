"""The dead letters of all plugins: list, replay, drop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from microkernel.errors import KernelError, MailboxFull
from microkernel.kernel.messaging.dead_letters import DeadLetter, DeadLetters
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.event_delivery import EventDelivery
from microkernel.kernel.ports import Reactor
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.reporting.plugin_info import ShownValues
from microkernel.wire import codec
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.slots import size_of
from microkernel.wire.topics import check_pattern, covers


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many dead letters were delivered again, and how many could not be and are ``left``."""

    replayed: int
    left: int


class DeadLetterService:
    """Part of the service ``kernel``. On threads that may wait."""

    def __init__(self, registry: Registry, dead_letters: DeadLetters, bus: EventBus, reactor: Reactor) -> None:
        self._registry = registry
        self._dead_letters = dead_letters
        self._bus = bus
        self._reactor = reactor

    def dead(self, name: str = "") -> list[dict[str, Any]]:
        """Return the dead letters of one plugin or of all, oldest first.

        They include letters that are not in the records yet, so that a new one is visible immediately.
        """
        letters = {
            id: letter for id, letter in self._dead_letters.arriving.copy().items() if name in ("", letter.plugin)
        }
        for record in [self._registry.get(name)] if name else [*self._registry]:
            letters |= {letter.id: letter for letter in [*record.dead_letters]}
        shown = ShownValues()
        return [_shown(letters[id], shown) for id in sorted(letters, reverse=True)][::-1]  # room for the newest first

    def replay(self, letter: int) -> bool:
        """Deliver a dead letter to its handler again.

        Raises KernelError if the letter or handler does not exist, and MailboxFull; then the letter stays.
        """
        record, dead = self._reactor.run(partial(self._find_letter, letter))
        self._replay(record, dead)
        return True

    def replay_all(self, plugin: str = "", topic: str = "", since: float = 0.0) -> Replayed:
        """Deliver the dead letters that match to their handlers again, oldest first.

        ``plugin``: of this plugin; ``topic``: a pattern; ``since``: not older than this time, in seconds since the
        epoch. Those that cannot be delivered, because their handler is gone or a mailbox is full, stay and are counted.
        """
        matching = self._matching(plugin, topic, since)
        left = 0
        for record, dead in matching:
            try:
                self._replay(record, dead)
            except KernelError:
                left += 1
        return Replayed(len(matching) - left, left)

    def drop_all(self, plugin: str = "", topic: str = "", since: float = 0.0) -> int:
        """Drop the dead letters that match, as for ``replay_all``. Return how many."""
        matching = self._matching(plugin, topic, since)
        for _, dead in matching:
            with suppress(KernelError):  # it has been dropped meanwhile
                self.drop(dead.id)
        return len(matching)

    def _matching(self, plugin: str, topic: str, since: float) -> list[tuple[PluginRecord, DeadLetter]]:
        records = [self._registry.get(plugin)] if plugin else [*self._registry]
        pattern = check_pattern(topic or "**")
        found = [
            (record, dead)
            for record in records
            for dead in [*record.dead_letters]
            if dead.time >= since and covers(pattern, dead.topic)
        ]
        return sorted(found, key=lambda each: each[1].id)

    def _replay(self, record: PluginRecord, dead: DeadLetter) -> None:
        for subscription in list(record.subscriptions.values()):
            if subscription.handler == dead.handler and not subscription.watches_data:
                mailbox = subscription.receiver.mailbox
                if mailbox.slots >= mailbox.capacity:
                    raise MailboxFull("MK0609", name=record.name, size=len(mailbox))
                envelope = self._bus.envelope(dead.source, dead.topic, codec.Raw(dead.data))
                self.drop(dead.id)
                size = size_of(envelope, dead.shares)
                delivery = EventDelivery(subscription, dead.topic, envelope, size, shares=dead.shares)
                if not self._bus.offer(delivery, "kernel"):
                    self._bus.reject(delivery)  # others have filled the mailbox since: it is a dead letter again
                return
        raise KernelError("MK0613", handler=dead.handler, topic=dead.topic, reason="it is gone", letter=dead.id)

    def drop(self, letter: int) -> bool:
        self._reactor.run(partial(self._drop, letter))
        return True

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the methods of the service, by name."""
        return {
            "dead": self.dead,
            "replay": self.replay,
            "replay_all": self.replay_all,
            "drop": self.drop,
            "drop_all": self.drop_all,
        }

    def _drop(self, letter: int) -> None:
        record, dead = self._find_letter(letter)
        record.dead_letters.remove(dead)

    def _find_letter(self, id: int) -> tuple[PluginRecord, DeadLetter]:
        for record in self._registry:
            for dead in [*record.dead_letters]:
                if dead.id == id:
                    return record, dead
        raise KernelError("MK0614", letter=id)


def _shown(letter: DeadLetter, shown: ShownValues) -> dict[str, Any]:
    fields = ("id", "plugin", "handler", "topic", "source", "time", "delivery", "reason", "traceback")
    entry = {name: getattr(letter, name) for name in fields}
    if not shown.has_room(letter.plugin, len(letter.reason) + len(letter.traceback)):
        entry |= {"reason": letter.reason[:_SHORT], "traceback": ""}
    attached = [f"<Buffer of {share.size:,} bytes>" for share in letter.shares]
    return entry | {"data": shown.value(letter.plugin, letter.data, attached)}


# Characters to which a reason is cut when the answer is full.
_SHORT = 200
