"""Descriptors that a worker receives, over a separate socket, and never sends: memory blocks, which it fetches once and
maps, and ends of direct channels, which the kernel sends before it announces them.

A block that it may only read is mapped so that anything it writes there goes to a private copy.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Sequence
from mmap import ACCESS_COPY, ACCESS_WRITE, mmap
from typing import Any

from microkernel.sdk.client.mapped_arrays import array_over
from microkernel.wire.codec import decode, encode


class BufferMappings:
    """A ``sdk.client.buffers.BlockMapper`` over the kernel's BufferServer. On any thread."""

    def __init__(self, lender: socket.socket) -> None:
        self._lender = lender
        self._asking = threading.Lock()
        self._mapped: dict[int, mmap] = {}
        # None for an end that was lost because this process has too many descriptors.
        self._ends: dict[int, socket.socket | None] = {}
        # The page that is shared with the kernel once there are direct channels, see ``ports.DirectLink``.
        self.waiting: mmap | None = None

    def array(self, block: int) -> Any:
        """Return the block as an array. Raises OSError for a block that it was not lent, or that the system cannot
        map."""
        mapping = self._mapped.get(block)
        return array_over(mapping if mapping is not None else self._fetch(block))

    def forget(self, blocks: Sequence[int]) -> None:
        """Drop blocks. A mapping remains until its last view is gone."""
        for block in blocks:
            self._mapped.pop(block, None)

    def take_end(self, channel: int) -> socket.socket:
        """Return an end of a direct channel that the kernel has announced. Raises OSError if it was not received."""
        with self._asking:
            while channel not in self._ends:
                self._take(-channel)
            end = self._ends.pop(channel)
        if end is None:
            raise OSError(f"the end of direct channel {channel} was lost")
        return end

    def _fetch(self, block: int) -> mmap:
        with self._asking:
            if block not in self._mapped:
                self._lender.send(encode(block))
                while block not in self._mapped:  # an answer may belong to a caller that was interrupted
                    self._take(block)
            return self._mapped[block]

    def _take(self, requested: int) -> None:
        data, ancillary, _, _ = self._lender.recvmsg(64, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC)
        block, may_write = decode(data, tuple[int, bool]) if data else (requested, False)
        if block < 0 and may_write:  # sent unrequested; a refusal of a block is not marked so
            self._ends[-block] = self._take_direct(ancillary)
        elif ancillary:
            self._mapped[block] = _mapped(struct.unpack("i", ancillary[0][2])[0], may_write)
        elif block == requested:
            raise OSError(f"the kernel does not lend block {block}")

    def _take_direct(self, ancillary: list[tuple[int, int, bytes]]) -> socket.socket | None:
        """Return the end that was received. The callee's first one has the shared page with it."""
        descriptors = [fd for _, _, data in ancillary for (fd,) in struct.iter_unpack("i", data)]
        if not descriptors:
            return None
        end = socket.socket(fileno=descriptors[0])
        if len(descriptors) > 1:
            try:
                self.waiting = _mapped(descriptors[1], True)
            except OSError:
                end.close()
                return None
        return end


def _mapped(descriptor: int, may_write: bool) -> mmap:
    try:
        return mmap(descriptor, 0, access=ACCESS_WRITE if may_write else ACCESS_COPY)
    finally:
        os.close(descriptor)
