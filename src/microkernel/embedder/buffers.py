"""Buffers of the embedding program, in the kernel's own mapping of them."""

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
    """What it shares and is sent; a ``sdk.sharing.Memory``. On any thread of the program's."""

    def __init__(self, core: Core) -> None:
        self._core = core
        limit = core.config.current().limits.get("shared_memory", Limits().shared_memory)
        self._holdings = BufferAccount("kernel", limit, _nothing, in_memory=True)
        self._sharing = BufferExchange(self, self._lend, self._holdings.release)
        self.share = self._sharing.share
        core.buffers.before_sweep(self._sharing.flush)

    def sent(self, shares: Sequence[Attachment]) -> tuple[Attachment, ...]:
        """For the kernel to keep."""
        return self._holdings.take(shares) if shares else ()

    def received(self, shares: Sequence[Attachment]) -> Sequence[Buffer]:
        """What the kernel has kept for it."""
        return self._sharing.receive(self._holdings.give(shares)) if shares else ()

    def array(self, block: int) -> Any:
        return array_over(self._holdings.block(block).memory)

    def forget(self, blocks: Sequence[int]) -> None:
        """Nothing is kept here."""

    def _lend(self, size: int) -> Sequence[Attachment]:
        return self._core.reactor.run(partial(self._core.buffers.lend, self._holdings, size))


def _nothing(_message: Message) -> None:
    """It has no mappings of its own."""
