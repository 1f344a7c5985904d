"""A worker that is forked ahead: it is set up as far as all workers are, and waits for its request.

To fork and to detach from the zygote takes as long as everything else in a start, so there is always one worker ahead.
If it is not needed at once it warms up, which takes a fifth off its start and costs 0.6 MiB.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

# Runs the worker. Gets the file of its request and its descriptors, which are all that it has open.
WorkerMain = Callable[[int, list[int]], NoReturn]

_MAX_DESCRIPTORS = 32
# Seconds without a request, after which probably not many workers are being started: there is time to warm up.
_IDLE_SECONDS = 0.02
_SETUP_FAILED = 70


class PreforkedWorker:
    """A forked worker, as the zygote sees it: ``pid``, and ``handle``, a pidfd that is valid until ``assign`` or
    ``close``.

    Raises OSError if no process can be forked.
    """

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
        """Start the worker with its descriptors, the last of which is its request. If it has just died, its exit is
        reported like any."""
        with suppress(ConnectionError):
            socket.send_fds(self._control, [b"."], descriptors)
        self.close()

    def close(self) -> None:
        """Release the worker. It exits if it was assigned nothing."""
        self._control.close()
        os.close(self.handle)


def receive(source: socket.socket, limit: int) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors that came with it; nothing if the other end is closed.

    That is reported as a reset if the other end had not read everything.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(source, limit, _MAX_DESCRIPTORS)
    except ConnectionResetError:
        return b"", []
    return data, descriptors


def _run_worker(
    control: socket.socket, prepare: Callable[[], object], warm_up: Callable[[], object], main: WorkerMain
) -> NoReturn:
    """Run the worker; never returns, because the caller's code is the zygote's."""
    try:
        prepare()
        if not select.select([control], [], [], _IDLE_SECONDS)[0]:
            warm_up()
        data, descriptors = receive(control, 1)
        control.close()  # its number may be reused soon
        if data:  # otherwise the zygote is gone, and no request will come
            main(descriptors.pop(), descriptors)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(_SETUP_FAILED)
