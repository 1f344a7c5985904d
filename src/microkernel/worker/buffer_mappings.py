"""Memory blocks that a worker has mapped. It fetches each once, over a separate socket, and never sends any.

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

    def array(self, block: int) -> Any:
        """Return the block as an array. Raises OSError for a block that it was not lent, or that the system cannot
        map."""
        mapping = self._mapped.get(block)
        return array_over(mapping if mapping is not None else self._fetch(block))

    def forget(self, blocks: Sequence[int]) -> None:
        """Drop blocks. A mapping remains until its last view is gone."""
        for block in blocks:
            self._mapped.pop(block, None)

    def _fetch(self, block: int) -> mmap:
        with self._asking:
            if block not in self._mapped:
                self._lender.send(encode(block))
                while block not in self._mapped:  # an answer may belong to a caller that was interrupted
                    self._take(block)
            return self._mapped[block]

    def _take(self, requested: int) -> None:
        data, ancillary, _, _ = self._lender.recvmsg(64, socket.CMSG_SPACE(4))
        block, may_write = decode(data, tuple[int, bool]) if data else (requested, False)
        if ancillary:
            self._mapped[block] = _mapped(struct.unpack("i", ancillary[0][2])[0], may_write)
        elif block == requested:
            raise OSError(f"the kernel does not lend block {block}")


def _mapped(descriptor: int, may_write: bool) -> mmap:
    try:
        return mmap(descriptor, 0, access=ACCESS_WRITE if may_write else ACCESS_COPY)
    finally:
        os.close(descriptor)
