"""Deliveries, which wait in mailboxes: their common part, and calls. ``event_delivery`` has events."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

from microkernel.kernel.ports import ReplyLane, Runner
from microkernel.wire.codec import Struct, field
from microkernel.wire.messages import Attachment, Call, Deliver, Invoke

_numbers = count(1)


class Delivery(Struct, kw_only=True, eq=False):
    """One message in a mailbox, or in flight.

    ``seq`` orders deliveries over all mailboxes. ``redelivered``: it was in flight when an instance died. ``size``:
    bytes for which it takes slots in its mailbox. ``shares``: its attachments, which stay unchanged while it waits. It
    is a Struct because one is created for each event and receiver, and a Struct is created by one C call.
    """

    seq: int = field(default_factory=_numbers.__next__)
    redelivered: bool = False
    is_call: ClassVar[bool] = False

    @property
    def size(self) -> int:
        raise NotImplementedError

    @property
    def shares(self) -> tuple[Attachment, ...]:
        raise NotImplementedError

    def message(self, runner: Runner) -> Deliver | Invoke | None:
        """Return the message to send to the present instance on this runner; None if it is no longer wanted."""
        raise NotImplementedError


class CallDelivery(Delivery):
    """A call that waits for its callee.

    ``id`` is the router's number of the call, ``lane`` where the caller's thread waits if it reads the reply itself.
    ``is_answered`` is set by the router. A call takes no more slots than a small event: its arguments are counted with
    the pending calls.
    """

    id: int
    call: Call
    method: str
    lane: ReplyLane | None = None
    is_answered: bool = False
    is_call: ClassVar[bool] = True
    size: ClassVar[int] = 0

    @property
    def shares(self) -> tuple[Attachment, ...]:
        return self.call.shares

    def message(self, runner: Runner) -> Invoke | None:
        if self.is_answered:
            return None
        call, lane = self.call, self.lane
        index = lane.index if lane is not None and lane.owner is runner else -1
        return Invoke(self.id, self.method, call.args, call.kwargs, call.deadline, call.chain, index, call.shares)
