"""Collect the answers to one ask."""

from __future__ import annotations

from collections.abc import Callable

from microkernel.errors import PayloadTooLarge
from microkernel.kernel.messaging.quota import OversizeTable
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.failures import from_error
from microkernel.wire.messages import NOTHING, Failure, Response
from microkernel.wire.slots import SLOT_BYTES, slots_for

Answer = Callable[[Response], object]

_EXPECTED = -1
# Slots: 64 MiB of answers to one ask.
_MOST_GATHERED = 8192


class AskCollector:
    """The replies to one ask, in the order of the handlers."""

    def __init__(self, owners: list[str], answer: Answer) -> None:
        self._replies: list[tuple[str, Raw | None, Failure | None]] = [(owner, None, None) for owner in owners]
        self._left = {*range(len(owners)), _EXPECTED}
        self._large = OversizeTable()
        self._answer = answer

    def answered(self, index: int, reply: Response) -> None:
        value, failure = reply.value, reply.failure
        size = len(value) + (len(encode_message(failure)) if failure is not None else 0)
        if sum(self._large.values()) + slots_for(size) > _MOST_GATHERED:
            value, failure = (
                NOTHING,
                from_error(PayloadTooLarge("MK0622", size=size, limit=_MOST_GATHERED * SLOT_BYTES)),
            )
        else:
            self._large.note(index, size)
        self._replies[index] = (self._replies[index][0], value, failure)
        self._settle(index)

    def expect(self) -> None:
        """Note that all handlers have been sent the event, so that the ask is answered when all have replied."""
        self._settle(_EXPECTED)

    def _settle(self, index: int) -> None:
        """Idempotent, but for the answer, which may be sent twice."""
        self._left.discard(index)
        if not self._left:
            self._answer(Response(0, Raw(encode_message(self._replies))))
