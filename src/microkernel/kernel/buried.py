"""The dead letters of all plugins: list, replay, drop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from microkernel.errors import KernelError
from microkernel.kernel.bus import Bus
from microkernel.kernel.info import shown_value
from microkernel.kernel.letters import EventLetter
from microkernel.kernel.reactor import Reactor
from microkernel.kernel.registry import DeadLetter, Record, Registry
from microkernel.wire import codec
from microkernel.wire.places import size_of

# Seconds for what instances have said before somebody asks to be heard.
_PATIENCE = 1.0


class Buried:
    """A part of the service `kernel`."""

    registry: Registry
    bus: Bus
    reactor: Reactor

    def catch_up(self) -> None:
        """Let all that instances have said until now take effect, so that what is shown is not older than an answer
        that the caller already has: answers do not pass through the reactor."""
        if self.reactor.is_here():
            return  # it cannot wait for itself
        heard: SimpleQueue[bool] = SimpleQueue()
        asked = self.reactor.run(partial(self._hear_all, partial(heard.put, True)))
        until = time.monotonic() + _PATIENCE
        with suppress(Empty):  # one of them says more than the kernel can hear in this time
            for _ in range(asked):
                heard.get(timeout=max(0.0, until - time.monotonic()))
        self.reactor.run(_nothing)  # what hearing it has posted is done by now

    def _hear_all(self, heard: Callable[[], object]) -> int:
        """How many will be heard."""
        places = [record.instance.place for record in [*self.registry] if record.instance is not None]
        for place in places:
            place.catch_up(heard)
        return len(places)

    def dead(self, name: str = "") -> list[dict[str, Any]]:
        self.catch_up()
        records = [self.registry.get(name)] if name else [*self.registry]
        letters = [letter for record in records for letter in [*record.dead_letters]]
        return [_shown(letter) for letter in sorted(letters, key=lambda letter: letter.id)]

    def replay(self, letter: int) -> bool:
        """Give a dead letter to its handler again. Raises KernelError if there is no such letter or handler."""
        record, dead = self._find_letter(letter)
        for subscription in list(record.subscriptions.values()):
            if subscription.handler == dead.handler and not subscription.board:
                envelope = self.bus.envelope(dead.source, dead.topic, codec.Raw(dead.data))
                self.drop(letter)
                size = size_of(envelope, dead.shares)
                self.bus.offer(EventLetter(subscription, dead.topic, envelope, size, shares=dead.shares), "kernel")
                return True
        raise KernelError("MK0613", handler=dead.handler, topic=dead.topic, reason="it is gone", letter=letter)

    def drop(self, letter: int) -> bool:
        self.reactor.run(partial(self._drop, letter))
        return True

    def _drop(self, letter: int) -> None:
        record, dead = self._find_letter(letter)
        record.dead_letters.remove(dead)

    def _find_letter(self, id: int) -> tuple[Record, DeadLetter]:
        for record in self.registry:
            for dead in [*record.dead_letters]:
                if dead.id == id:
                    return record, dead
        raise KernelError("MK0614", letter=id)


def _nothing() -> None:
    """Only waits for its turn."""


def _shown(letter: DeadLetter) -> dict[str, Any]:
    data = shown_value(letter.data, [f"<Buffer of {share.size:,} bytes>" for share in letter.shares])
    fields = ("id", "plugin", "handler", "topic", "source", "time", "delivery", "reason", "traceback")
    return {name: getattr(letter, name) for name in fields} | {"data": data}
