"""A worker that is forked before anybody wants it: it has settled in as far as all do, and waits for its request.

To fork, and to break away from the zygote, takes as long as all the rest of a birth; so there is always one ahead. If
nobody wants it at once it rehearses, which takes a fifth off its birth and costs 0.6 MiB.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

WorkerMain = Callable[[int, list[int]], NoReturn]
"""What becomes of it. Gets the file of its request and its descriptors, which are all that it has open."""

_MAX_DESCRIPTORS = 32
_IDLE_SECONDS = 0.02
"""Seconds without a request, after which nobody seems to be starting many: there is time for a rehearsal."""
_SETUP_FAILED = 70


class PreforkedWorker:
    """In the zygote: ``pid``, and ``handle``, a pidfd, which is good until ``assign`` or ``close``. Raises OSError when
    no process can be had."""

    def __init__(self, prepare: Callable[[], object], warm_up: Callable[[], object], main: WorkerMain) -> None:
        self._control, worker_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with worker_control:
                self.pid = os.fork()
                if self.pid == 0:
                    self._control.close()
                    _run_worker(worker_control, prepare, warm_up, main)
        except OSError:
            self._control.close()
            raise
        self.handle = os.pidfd_open(self.pid)

    def assign(self, descriptors: Sequence[int]) -> None:
        """Its own, and last its request: it begins. Of one that has just died we hear as of any that dies."""
        with suppress(ConnectionError):
            socket.send_fds(self._control, [b"."], descriptors)
        self.close()

    def close(self) -> None:
        """Let go of it. One that was given nothing ends."""
        self._control.close()
        os.close(self.handle)


def receive(source: socket.socket, limit: int) -> tuple[bytes, list[int]]:
    """A message and the descriptors that came with it. Nothing when the other end has gone: that is a reset if it had
    not read all that it was told."""
    try:
        data, descriptors, _, _ = socket.recv_fds(source, limit, _MAX_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []
    return data, descriptors


def _run_worker(
    control: socket.socket, prepare: Callable[[], object], warm_up: Callable[[], object], main: WorkerMain
) -> NoReturn:
    """Whatever happens, it does not come back: what would go on is the zygote's own code."""
    try:
        prepare()
        if not select.select([control], [], [], _IDLE_SECONDS)[0]:
            warm_up()
        data, descriptors = receive(control, 1)
        control.close()  # its number may be another's soon
        if data:  # else the zygote has gone, and nobody will want it
            main(descriptors.pop(), descriptors)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(_SETUP_FAILED)
