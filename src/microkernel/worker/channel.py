"""The worker's end of a channel: D brings events and calls, U takes what goes up and brings the answers to it.

D is read by the main thread alone. U is read by whoever waits for an answer: one of the waiting threads at a time,
which hands the others theirs; or by the event loop, if there is one.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

from microkernel.sdk.client.buffers import BlockMapper
from microkernel.sdk.client.channel import ChannelClosed
from microkernel.sdk.process_copies import end_copy, page
from microkernel.wire import frames, messages
from microkernel.wire.messages import Message, Reply
from microkernel.wire.nonblocking_io import SPIN_SECONDS, AdaptiveSpin
from microkernel.wire.session import Session, pack, pack_for_lane
from microkernel.wire.slots import EMIT_WINDOW, size_of, slots_for

_RECEIVE = frames.DATAGRAM
_LONGEST = 3600.0
"""The system takes no wait of more than some weeks; who waits for longer asks again."""
Answer = Callable[[Reply], object]


class WorkerChannel:
    """A ``sdk.channel.Channel`` over two SEQPACKET sockets and reply lanes."""

    def __init__(
        self,
        down: socket.socket,
        up: socket.socket,
        lanes: Sequence[socket.socket],
        memory: BlockMapper | None = None,
    ) -> None:
        self.memory = memory
        self.on_orphan_reply: Answer
        self._down = down
        self._up = up
        self._lanes = lanes
        self._from_down = Session("worker", limit=frames.TRUSTED)
        self._from_up = Session("worker", limit=frames.TRUSTED)
        self._down_poll = select.poll()
        self._down_poll.register(down, select.POLLIN)
        self._up_poll = select.poll()
        self._up_poll.register(up, select.POLLIN)
        self._sending = threading.Lock()
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._is_being_read = False
        self._waiting = 0
        self._answers: dict[int, Answer] = {}
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}
        self._emitted = 0
        self._has_emitted = False
        self._spin = AdaptiveSpin(SPIN_SECONDS, yields=False)
        self._write(self._from_up.hello())

    # Down

    def receive(self, timeout: float | None) -> Sequence[Message]:
        if not page[0]:
            end_copy()
        while True:
            data = self._spin.try_receive(self._down.fileno()) if timeout != 0.0 else b""
            if not data:
                if timeout is not None and not self._down_poll.poll(min(timeout, _LONGEST) * 1000):
                    return ()
                data = _read(self._down)
            received = self._from_down.receive(data)
            if received:
                return received

    def fileno(self) -> int:
        return self._down.fileno()

    # Up

    def send(self, message: Message) -> None:
        if isinstance(message, messages.Emit):
            self._wait_for_credit(slots_for(size_of(message.data, message.shares)))
            self._has_emitted = True
        elif isinstance(message, messages.Rejected):
            self._has_emitted = True  # what becomes of it, a dead letter, is to be seen by whoever has the answer
        self._write(pack([message]))

    def reply(self, reply: Reply, lane: int) -> None:
        if lane < 0:
            self.send(reply)
            return
        reply.emitted, self._has_emitted = self._has_emitted, False
        frame = pack_for_lane(reply)
        if not frame:
            reply.elsewhere = True
            self.send(reply)
            frame = pack([Reply(reply.id, emitted=reply.emitted, elsewhere=True)])
        try:
            self._lanes[lane].send(frame)
        except OSError:  # the caller has given the lane up: the kernel drops what comes too late
            if not reply.elsewhere:
                self.send(reply)

    def request(self, id: int, message: Message, deadline: float) -> Reply | None:
        replies: list[Reply] = []
        self._answers[id] = replies.append
        try:
            self.send(message)
            self._read_until(deadline, lambda: bool(replies))
        finally:
            self._answers.pop(id, None)
        return replies[0] if replies else None

    def request_later(self, id: int, message: Message, answer: Answer) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        self._answers[id] = answer
        self._loops[loop] = self._loops.get(loop, 0) + 1
        if self._loops[loop] == 1:
            loop.add_reader(self._up.fileno(), self._read_available)
        self.send(message)
        return lambda: self._forget(loop, id)

    def _forget(self, loop: asyncio.AbstractEventLoop, id: int) -> None:
        self._answers.pop(id, None)
        self._loops[loop] -= 1
        if self._loops[loop] == 0:
            del self._loops[loop]
            loop.remove_reader(self._up.fileno())

    def _wait_for_credit(self, places: int) -> None:
        if self._emitted >= EMIT_WINDOW:
            self._read_until(None, lambda: self._emitted < EMIT_WINDOW)
        self._emitted += places

    def _read_until(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Read until there is enough or the deadline has passed; where another reads, wait until it has read what is
        wanted, or gives up its turn. After each read all look again: what was read may be anybody's."""
        with self._lock:
            while not enough():
                left = _LONGEST if deadline is None else min(deadline - time.monotonic(), _LONGEST)
                if left <= 0:
                    return
                if self._is_being_read:
                    self._waiting += 1
                    self._turn.wait(left)
                    self._waiting -= 1
                else:
                    self._read_once(left)

    def _read_once(self, timeout: float) -> None:
        """With ``_lock`` held, which is let go while this waits."""
        self._is_being_read = True
        self._lock.release()
        try:
            if self._up_poll.poll(timeout * 1000):
                self._take(_read(self._up))
        finally:
            self._lock.acquire()
            self._is_being_read = False
            if self._waiting:
                self._turn.notify_all()

    def _read_available(self) -> None:
        with self._lock:
            if not self._is_being_read:  # else a thread that waits is reading already
                self._read_once(0.0)

    def _take(self, data: bytes) -> None:
        for message in self._from_up.receive(data):
            if isinstance(message, Reply):
                answer = self._answers.pop(message.id, None)
                if answer is not None:
                    answer(message)
                elif message.shares:
                    self.on_orphan_reply(message)
            elif isinstance(message, messages.Credit):
                self._emitted -= message.count

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
