"""Buffers of one instance: into memory that the kernel lends, or as plain bytes, and out of what has come.

What is lent is known by *holds*. Each is the right to have one block as it is: to write to it, for who asked for it, to
read it, for who was sent it. A hold is given back when nobody looks at the bytes any more: neither the Buffer nor any
view of it, which is why a view is not of the mapping itself but of an array over it, one for each hold.

On any thread, also on one that can be killed: then a hold may be lost, and is the instance's until it ends.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from microkernel.errors import InvalidArguments, KernelError, PayloadTooLarge
from microkernel.sdk.buffer import Buffer
from microkernel.wire.codec import MAX_PAYLOAD
from microkernel.wire.messages import Attachment
from microkernel.wire.slots import SMALL, block_size

AllocateBuffer = Callable[[int], Sequence[Attachment]]
"""Asks the kernel for memory for so many bytes; at least one block. Raises PayloadTooLarge."""


class BlockMapper(Protocol):
    """Where lent blocks are reached."""

    def array(self, block: int) -> Any:
        """A new array over all of it, which can be referred to weakly. What is written to it others see only where the
        block was lent to be written to."""

    def forget(self, blocks: Sequence[int]) -> None:
        """These are no more."""


class BufferExchange:
    """``memory`` None: there is none for it, and what it shares travels as bytes."""

    def __init__(
        self, memory: BlockMapper | None, lend: AllocateBuffer, give_back: Callable[[list[int]], object]
    ) -> None:
        self._memory = memory
        self._lend = lend
        self._give_back = give_back
        self._ready: dict[int, deque[Attachment]] = {}
        """What is lent and not yet written to, by size."""
        self._holds: dict[int, _Hold] = {}
        self.ended: deque[_Hold] = deque()
        """What nobody looks at any more, and the kernel has not been told of."""

    def share(self, data: Any) -> Buffer:
        if isinstance(data, Buffer):
            return data
        view = memoryview(data)
        if self._memory is not None and view.nbytes > SMALL:
            with suppress(PayloadTooLarge, OSError):
                return self._in_memory(view, self._take(view.nbytes))
        if view.nbytes > MAX_PAYLOAD:
            raise PayloadTooLarge("MK0623", size=view.nbytes, limit=MAX_PAYLOAD)
        return Buffer.__from_bytes__(view.tobytes())

    def receive(self, shares: Sequence[Attachment]) -> list[Buffer]:
        """What has come with a message. Each that is not kept is given back by itself. Raises InvalidArguments for what
        cannot be mapped."""
        try:
            return [self._received(share) for share in shares]
        except (OSError, KernelError) as failure:
            self._give_back([share.hold for share in shares if share.hold not in self._holds])
            raise InvalidArguments("MK0605", reason=f"a Buffer cannot be mapped: {failure}") from None

    def drop(self, shares: Sequence[Attachment]) -> None:
        """Of what nobody wants."""
        if held := [share.hold for share in shares if share.hold]:
            self._give_back(held)

    def flush(self) -> None:
        """Give back the holds that have ended."""
        ended = []
        while self.ended:
            hold = self.ended.popleft()
            ended.append(hold.number)
            self._holds.pop(hold.number, None)
        if ended:
            self._give_back(ended)

    def forget(self, blocks: Sequence[int]) -> None:
        if self._memory is not None:
            self._memory.forget(blocks)

    def _in_memory(self, view: memoryview, lent: Attachment) -> Buffer:
        size = view.nbytes
        try:
            room = self._view(lent)[:size]
        except OSError:
            self.drop([lent])
            raise
        room[:] = view.cast("B") if view.c_contiguous else view.tobytes()
        return Buffer(room.toreadonly(), Attachment(size, lent.hold, lent.block))

    def _received(self, share: Attachment) -> Buffer:
        if not share.hold:
            return Buffer.__from_bytes__(share.data)
        return Buffer(self._view(share)[: share.size].toreadonly(), share)

    def _take(self, size: int) -> Attachment:
        """Something to write to; another thread may be faster. Raises PayloadTooLarge if the kernel lends no more."""
        ready = self._ready.setdefault(block_size(size), deque())
        while True:
            try:
                return ready.popleft()
            except IndexError:
                self.flush()
                ready.extend(self._lend(size))

    def _view(self, lent: Attachment) -> memoryview:
        assert self._memory is not None
        array = self._memory.array(lent.block)
        self._holds[lent.hold] = _Hold(array, self.ended.append, lent.hold)
        return memoryview(array).cast("B")


class _Hold(weakref.ref[Any]):
    """Told by one C call when nobody looks any more."""

    __slots__ = ("number",)

    def __new__(cls, array: Any, ended: Callable[[Any], object], number: int) -> _Hold:  # noqa: ARG004
        return super().__new__(cls, array, ended)

    def __init__(self, array: Any, ended: Callable[[Any], object], number: int) -> None:
        super().__init__(array, ended)  # type: ignore[call-arg]
        self.number = number
