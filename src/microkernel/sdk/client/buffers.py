"""Buffers of one instance: shared in memory that the kernel allocates, or as plain bytes, and received from others.

Shared memory is tracked by *holds*. A hold is the right to use one block: for the allocator to write to it, for a
receiver to read it. A hold is released when the Buffer and every view of it are gone. To detect that, views are taken
of an array over the mapping, a new one for each hold, and not of the mapping itself.

May be used on any thread, also on one that can be killed. A kill can lose a hold, which then lasts until the instance
ends.
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
from microkernel.wire.slots import LENT_AT_ONCE, MAX_INLINE, block_size

# Requests memory of this size in bytes from the kernel; returns at least one block. Raises PayloadTooLarge.
AllocateBuffer = Callable[[int], Sequence[Attachment]]
# Releases holds that have ended, and requests blocks of this size in bytes, with the next message that is sent.
# The function is called with the blocks, of which there may be none, later and on any thread.
PrepareBuffers = Callable[[int, list[int], Callable[[Sequence[Attachment]], object]], object]


class BlockMapper(Protocol):
    """Access to the shared memory blocks."""

    def array(self, block: int) -> Any:
        """Return a new array over a block, which supports weak references. Others see what is written to it only if the
        block was allocated for writing."""

    def forget(self, blocks: Sequence[int]) -> None:
        """Close the mappings of blocks that no longer exist."""


class BufferExchange:
    """The buffers of one instance. Without ``memory``, buffers are sent as bytes."""

    def __init__(
        self,
        memory: BlockMapper | None,
        lend: AllocateBuffer,
        release: Callable[[list[int]], object],
        prepare: PrepareBuffers | None = None,
        read_available: Callable[[], object] = int,
    ) -> None:
        self._memory = memory
        self._allocate = lend
        self._release = release
        self._prepare = prepare
        self._read_available = read_available
        # Sizes of blocks that have been requested in advance, until the answer is read.
        self._requested: set[int] = set()
        # Holds of blocks that came although there were others; they are released with the next that ends.
        self._surplus: deque[int] = deque()
        # Allocated blocks that are not written to yet, by size.
        self._ready: dict[int, deque[Attachment]] = {}
        self._holds: dict[int, _Hold] = {}
        # Holds that have ended and are not released in the kernel yet.
        self.ended: deque[_Hold] = deque()

    def share(self, data: Any) -> Buffer:
        if isinstance(data, Buffer):
            return data
        view = memoryview(data)
        if self._memory is not None and view.nbytes > MAX_INLINE:
            with suppress(PayloadTooLarge, OSError):
                return self._in_memory(view, self._take(view.nbytes))
        if view.nbytes > MAX_PAYLOAD:
            raise PayloadTooLarge("MK0623", size=view.nbytes, limit=MAX_PAYLOAD)
        return Buffer.__from_bytes__(view.tobytes())

    def receive(self, shares: Sequence[Attachment]) -> list[Buffer]:
        """Return the Buffers of received attachments. The hold of each is released when it is no longer used. Raises
        InvalidArguments if one cannot be mapped."""
        try:
            return [self._received(share) for share in shares]
        except (OSError, KernelError) as failure:
            self._release([share.hold for share in shares if share.hold not in self._holds])
            raise InvalidArguments("MK0605", reason=f"a Buffer cannot be mapped: {failure}") from None

    def drop(self, shares: Sequence[Attachment]) -> None:
        """Release the holds of attachments that are not used."""
        if held := holds_of(shares):
            self._release(held)

    def flush(self) -> None:
        """Release the holds that have ended."""
        if ended := self._take_ended():
            self._release(ended)

    def _take_ended(self) -> list[int]:
        ended = []
        while self._surplus:
            ended.append(self._surplus.popleft())
        while self.ended:
            hold = self.ended.popleft()
            ended.append(hold.number)
            self._holds.pop(hold.number, None)
        return ended

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
        """Take an allocated block; another thread may be faster. Raises PayloadTooLarge if the kernel allocates no
        more.

        With the last one, further blocks are requested in advance: the answer comes with that of the call
        that the Buffer is for, so that a plugin that sends one Buffer after another waits for none.
        """
        block = block_size(size)
        ready = self._ready.setdefault(block, deque())
        while True:
            try:
                taken = ready.popleft()
            except IndexError:
                if block in self._requested:
                    self._read_available()  # a plugin that only emits reads no answers
                if not ready:
                    self.flush()
                    self._add(ready, self._allocate(size))
            else:
                if not ready and block <= LENT_AT_ONCE:
                    self._request_ahead(block, ready)
                return taken

    def _add(self, ready: deque[Attachment], lent: Sequence[Attachment]) -> None:
        """Add blocks that this thread has waited for. If those requested in advance have come first, one is enough."""
        keep = 1 if ready else len(lent)
        ready.extend(lent[:keep])
        self._surplus.extend(each.hold for each in lent[keep:])

    def _request_ahead(self, block: int, ready: deque[Attachment]) -> None:
        if self._prepare is None or block in self._requested:
            return

        def answered(lent: Sequence[Attachment]) -> None:
            if ready:  # a request that waited was faster
                self._surplus.extend(each.hold for each in lent)
            else:
                ready.extend(lent)
            self._requested.discard(block)

        self._requested.add(block)
        self._prepare(block, self._take_ended(), answered)

    def _view(self, lent: Attachment) -> memoryview:
        assert self._memory is not None
        array = self._memory.array(lent.block)
        self._holds[lent.hold] = _Hold(array, self.ended.append, lent.hold)
        return memoryview(array).cast("B")


def holds_of(shares: Sequence[Attachment]) -> list[int]:
    """Return the holds of those attachments that are in shared memory."""
    return [share.hold for share in shares if share.hold]


class _Hold(weakref.ref[Any]):
    """A weak reference to an array, whose callback is one C call: it registers that the hold has ended."""

    __slots__ = ("number",)

    def __new__(cls, array: Any, ended: Callable[[Any], object], number: int) -> _Hold:  # noqa: ARG004
        return super().__new__(cls, array, ended)

    def __init__(self, array: Any, ended: Callable[[Any], object], number: int) -> None:
        super().__init__(array, ended)  # type: ignore[call-arg]
        self.number = number
