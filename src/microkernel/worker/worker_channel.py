"""The worker's end of a channel: D brings events and calls, U carries messages to the kernel and the answers to them.

Only the main thread reads D. U is read by the threads that wait for an answer, one at a time, which passes the others
theirs; or by the event loop, if there is one.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

from microkernel.sdk.client.buffers import BlockMapper
from microkernel.sdk.client.channel import ChannelClosed
from microkernel.sdk.client.request_channel import RequestChannel
from microkernel.sdk.process_copies import end_copy, page
from microkernel.wire import frames
from microkernel.wire.messages import Message
from microkernel.wire.nonblocking_io import MAX_WAIT, SPIN_SECONDS, AdaptiveSpin
from microkernel.wire.session import Session

_RECEIVE = frames.DATAGRAM


class WorkerChannel(RequestChannel):
    """A ``sdk.client.channel.Channel`` over two SEQPACKET sockets and reply lanes."""

    def __init__(
        self,
        down: socket.socket,
        up: socket.socket,
        lanes: Sequence[socket.socket],
        memory: BlockMapper | None = None,
    ) -> None:
        super().__init__()
        self.memory = memory
        self._down = down
        self._up = up
        self._lanes = lanes
        self.lane_descriptors = tuple(lane.fileno() for lane in lanes)
        self._from_down = Session("worker", limit=frames.MAX_TRUSTED_FRAME)
        self._from_up = Session("worker", limit=frames.MAX_TRUSTED_FRAME)
        self._down_poll = select.poll()
        self._down_poll.register(down, select.POLLIN)
        self._up_poll = select.poll()
        self._up_poll.register(up, select.POLLIN)
        self._sending = threading.Lock()
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._is_being_read = False
        self._waiting = 0
        self._spin = AdaptiveSpin(SPIN_SECONDS, yields=False)
        self._write(self._from_up.hello())

    # Down

    def receive(self, timeout: float | None) -> Sequence[Message]:
        if not page[0]:
            end_copy()
        while True:
            data = self._spin.try_receive(self._down.fileno()) if timeout != 0.0 else b""
            if not data:
                if timeout is not None and not self._down_poll.poll(min(timeout, MAX_WAIT) * 1000):
                    return ()
                data = _read(self._down)
            received = self._from_down.receive(data)
            if received:
                return received

    def fileno(self) -> int:
        return self._down.fileno()

    # Up

    def _write_to_lane(self, lane: int, frame: bytes) -> bool:
        try:
            self._lanes[lane].send(frame)
        except OSError:
            return False
        return True

    def _up_fileno(self) -> int:
        return self._up.fileno()

    def _read_until(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Read until ``enough`` returns True or the deadline has passed.

        While another thread reads, wait until it has read something, or stops reading. After each read all check again,
        because it may have read anyone's answer.
        """
        with self._lock:
            while not enough():
                left = MAX_WAIT if deadline is None else min(deadline - time.monotonic(), MAX_WAIT)
                if left <= 0:
                    return
                if self._is_being_read:
                    self._waiting += 1
                    self._turn.wait(left)
                    self._waiting -= 1
                else:
                    self._read_once(left)

    def _read_once(self, timeout: float) -> None:
        """Read with ``_lock`` held, which is released while this waits."""
        self._is_being_read = True
        self._lock.release()
        try:
            if self._up_poll.poll(timeout * 1000):
                for message in self._from_up.receive(_read(self._up)):
                    self._handle(message)
        finally:
            self._lock.acquire()
            self._is_being_read = False
            if self._waiting:
                self._turn.notify_all()

    def read_available(self) -> None:
        with self._lock:
            if not self._is_being_read:  # otherwise a waiting thread is reading already
                self._read_once(0.0)

    def _write(self, frame: bytes) -> None:
        try:
            with self._sending:
                for part in frames.datagrams(frame):
                    self._up.send(part)
        except OSError:
            raise ChannelClosed from None


def _read(source: socket.socket) -> bytes:
    try:
        data = source.recv(_RECEIVE)
    except ConnectionError:
        data = b""
    if not data:
        raise ChannelClosed
    return data
