"""What an instance is doing right now: the deadline, the chain of callers and the slot that a nested call inherits."""

from __future__ import annotations

import time
from contextvars import ContextVar

from microkernel.wire.codec import Struct

NO_SLOT = -1
LONGEST = 1e9
"""Seconds: what is longer is for ever, and no clock of the system takes it."""


class RequestContext(Struct):
    """One delivery or call being handled. ``deadline`` is monotonic seconds, 0 for none; ``slot`` the handler thread it
    occupies, ``NO_SLOT`` for spawned work and for ``async`` handlers that wait with ``acall``."""

    id: int
    deadline: float
    chain: list[str]
    slot: int
    cancel_requested: bool = False

    @property
    def cancelled(self) -> bool:
        """Nobody waits for it any more."""
        return self.cancel_requested or (self.deadline > 0 and time.monotonic() >= self.deadline)


IDLE = RequestContext(0, 0.0, [], NO_SLOT)
current: ContextVar[RequestContext] = ContextVar("microkernel_work", default=IDLE)


def deadline_in(timeout: float) -> float:
    """The deadline of a request made now: its own, or what is left of the one around it."""
    own = time.monotonic() + min(timeout, LONGEST)
    around = current.get().deadline
    return min(own, around) if around else own
