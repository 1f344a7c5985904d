"""The current request of an instance: the deadline, chain of callers and slot that a nested call inherits."""

from __future__ import annotations

import time
from contextvars import ContextVar

from microkernel.wire.codec import Struct

NO_SLOT = -1
# Maximum timeout in seconds; longer ones mean forever, and no clock of the system accepts them.
MAX_TIMEOUT = 1e9


class RequestContext(Struct):
    """One delivery or call being handled.

    ``deadline`` is in monotonic seconds, 0 for none. ``slot`` is the handler thread that it occupies; ``NO_SLOT`` for
    spawned work, and for ``async`` handlers that wait with ``acall``.
    """

    id: int
    deadline: float
    chain: list[str]
    slot: int
    cancel_requested: bool = False

    @property
    def cancelled(self) -> bool:
        """True if the result is no longer wanted."""
        return self.cancel_requested or (self.deadline > 0 and time.monotonic() >= self.deadline)


IDLE = RequestContext(0, 0.0, [], NO_SLOT)
current: ContextVar[RequestContext] = ContextVar("microkernel_work", default=IDLE)


def deadline_in(timeout: float) -> float:
    """Return the deadline of a request made now: ``timeout`` seconds from now, limited by the deadline of the request
    around it."""
    own = time.monotonic() + min(timeout, MAX_TIMEOUT)
    around = current.get().deadline
    return min(own, around) if around else own
