"""What owns a mailbox: a plugin's record or the embedding program; its counts, and its policy when it is full."""

from __future__ import annotations

from typing import Literal, Protocol

from microkernel.kernel.messaging.delivery import Delivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import PendingTable
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import Message

Overflow = Literal["block", "reject", "drop_oldest", "drop_newest"]


@dataclass(slots=True)
class Counts:
    """Statistics for display. A race may lose a count."""

    events: int = 0
    calls: int = 0
    emitted: int = 0
    dropped: int = 0
    refused: int = 0
    dead: int = 0


class MailboxOwner(Protocol):
    """Has a mailbox: a plugin, or the embedding program."""

    mailbox: Mailbox
    counts: Counts
    incoming: PendingTable[Delivery | None]

    @property
    def name(self) -> str: ...

    @property
    def full_mailbox_timeout(self) -> float:
        """Seconds that a delivery may wait for room in the mailbox."""

    def send(self, message: Message) -> None:
        """Send a message to the present consumer directly, bypassing the mailbox. Never waits."""


def overflow_policy(source: str, owner: str, overflow: str) -> str:
    """Return the policy for an event that finds the mailbox full. A plugin does not wait for its own mailbox."""
    return "reject" if source == owner else overflow
