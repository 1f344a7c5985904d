"""Buffers of the embedding program, in the kernel's own mappings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from microkernel.kernel.kernel import Core
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.buffers import BufferAccount
from microkernel.sdk.buffer import Buffer
from microkernel.sdk.client.buffers import BufferExchange
from microkernel.sdk.client.mapped_arrays import array_over
from microkernel.wire.messages import Attachment, Message


class EmbedderBuffers:
    """A ``sdk.client.buffers.BlockMapper`` for the embedding program. May be used on any of its threads."""

    def __init__(self, core: Core) -> None:
        self._core = core
        limit = core.config.current().limits.get("shared_memory", Limits().shared_memory)
        self._holdings = BufferAccount("kernel", limit, _ignore, in_memory=True)
        self._sharing = BufferExchange(self, self._allocate, self._holdings.release)
        self.share = self._sharing.share
        core.buffers.before_sweep(self._sharing.flush)

    def sent(self, shares: Sequence[Attachment]) -> tuple[Attachment, ...]:
        """Transfer attachments to the kernel."""
        return self._holdings.take(shares) if shares else ()

    def received(self, shares: Sequence[Attachment]) -> Sequence[Buffer]:
        """Return the Buffers of attachments that the kernel holds for this program."""
        return self._sharing.receive(self._holdings.give(shares)) if shares else ()

    def array(self, block: int) -> Any:
        return array_over(self._holdings.block(block).memory)

    def forget(self, blocks: Sequence[int]) -> None:
        """Do nothing, because this program maps no blocks itself, so there is nothing to close."""

    def _allocate(self, size: int) -> Sequence[Attachment]:
        return self._core.reactor.run(partial(self._core.buffers.allocate, self._holdings, size))


def _ignore(_message: Message) -> None:
    """Discard a message to the account: there are no mappings to close."""
