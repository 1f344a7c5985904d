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

from microkernel.sdk.client.channel import ChannelClosed
from microkernel.sdk.client.request_channel import RequestChannel
from microkernel.sdk.process_copies import end_copy, page
from microkernel.wire import frames, messages
from microkernel.wire.messages import Message, Response
from microkernel.wire.nonblocking_io import MAX_WAIT, SPIN_SECONDS, AdaptiveSpin
from microkernel.wire.session import Session, pack
from microkernel.worker.buffer_mappings import BufferMappings
from microkernel.worker.direct_route import DirectRoute
from microkernel.worker.direct_server import DirectServer

_RECEIVE = frames.DATAGRAM
# Requests during which a handler waits for other plugins.
_WAITING = (messages.Call, messages.Ask)
# Messages that a later call must not overtake; also a Call that no thread waits for.
_ORDERED = (messages.Emit, messages.Ask, messages.Data)
# Messages with effects that a caller must find when it has its answer.
_VISIBLE = (messages.Emit, messages.Rejected)


class WorkerChannel(RequestChannel):
    """A ``sdk.client.channel.Channel`` over two SEQPACKET sockets and reply lanes."""

    def __init__(
        self,
        down: socket.socket,
        up: socket.socket,
        lanes: Sequence[socket.socket],
        memory: BufferMappings | None = None,
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
        self.direct: DirectServer | None = None
        if memory is not None:
            self.direct = DirectServer(memory, self._report, down.fileno(), self._from_down.receive, self._note_direct)
        # Direct channels to other plugins, by their names.
        self._routes: dict[str, DirectRoute] = {}
        # Replaced after each message that a later call must not overtake.
        self._mark = object()
        self._write(self._from_up.hello())

    # Down

    def receive(self, timeout: float | None) -> Sequence[Message]:
        if not page[0]:
            end_copy()
        if self.direct is not None and self.direct.ends:
            return self.direct.receive(timeout)
        while True:
            data = self._spin.try_receive(self._down.fileno()) if timeout != 0.0 else b""
            if not data:
                if timeout is not None and not self._down_poll.poll(min(timeout, MAX_WAIT) * 1000):
                    return ()
                data = _read(self._down)
            received = self._from_down.receive(data)
            if received:
                return received

    def receive_control(self, timeout: float | None) -> Sequence[Message]:
        if self.direct is None or not self.direct.ends:
            return self.receive(timeout)
        if not page[0]:
            end_copy()
        return self.direct.receive_control(timeout)

    def fileno(self) -> int:
        return self._down.fileno()

    # Direct channels

    def request(self, id: int, message: Message, deadline: float) -> Response | None:
        """Send a request and wait for its answer: a call on the direct channel to its callee, if there is one.

        A call on a channel could overtake what this instance has sent through the kernel. So the channel is used only
        if nothing was sent since the last call of the same callee that went through the kernel and was answered; the
        callee has handled everything before that. ``_mark`` changes after each such message.
        """
        if not self._routes or type(message) is not messages.Call:
            return super().request(id, message, deadline)
        route = self._routes.get(message.target.partition(".")[0])
        if route is None:
            return super().request(id, message, deadline)
        mark = self._mark
        if route.seen is mark and route.lock.acquire(blocking=False):
            try:
                return self._call_direct(route, message, deadline)
            finally:
                route.lock.release()
        try:
            reply = super().request(id, message, deadline)
        except BaseException:
            self._mark = object()
            raise
        if reply is None:
            self._mark = object()  # it may still be on its way
        elif reply.failure is None:
            route.confirm(mark)
        return reply

    def request_later(self, id: int, message: Message, answer: Callable[[Response], object]) -> Callable[[], None]:
        forget = super().request_later(id, message, answer)
        self._mark = object()
        return forget

    def _call_direct(self, route: DirectRoute, call: messages.Call, deadline: float) -> Response | None:
        replies: list[Response] = []
        self._answers[call.id] = replies.append
        try:
            reply = self._try_route(route, call)
            if reply is None:
                self._read_until(deadline, lambda: bool(replies))
                reply = replies[0] if replies else None
            if reply is not None and reply.elsewhere:
                reply = route.receive_late(call.id, deadline)
            if reply is None:
                route.give_up()
            return reply
        except BaseException:
            route.give_up()
            raise
        finally:
            self._answers.pop(call.id, None)
            if route.closed:
                self._drop_route(call.target.partition(".")[0], route)

    def _try_route(self, route: DirectRoute, call: messages.Call) -> Response | None:
        """Send a call on its channel. Return the reply if it comes in a moment; otherwise it comes from the kernel."""
        if self.direct is not None and self.direct.served is not None:
            self._before_sending(call)
        if not route.call(call):
            self.send(call)
            return None
        reply = route.receive(call.id)
        if reply is None:
            self._report(messages.DirectAdopt(route.number, call.id, call.target, call.deadline, call.slot, call.chain))
        return reply if reply is not None and not reply.elsewhere else None

    def _drop_route(self, callee: str, route: DirectRoute) -> None:
        if self._routes.get(callee) is route:
            del self._routes[callee]
        route.close()
        self._mark = object()
        self._report(messages.DirectStatus(route.number, open=False))

    def _add_route(self, message: messages.DirectRoute) -> None:
        if self.memory is None:
            return
        try:
            end = self.memory.take_end(message.channel)
        except OSError:  # out of descriptors
            self._report(messages.DirectStatus(message.channel, open=False))
            return
        old = self._routes.get(message.callee)
        if old is not None:
            old.give_up()
            if old.lock.acquire(blocking=False):  # otherwise the thread that uses it drops it
                self._drop_route(message.callee, old)
        self._routes[message.callee] = DirectRoute(message.channel, end)
        self._note_direct()

    def _note_direct(self) -> None:
        self._has_direct = True

    def _before_sending(self, message: Message) -> None:
        if self.direct is not None and isinstance(message, _WAITING) and message.slot >= 0:
            self.direct.adopt()

    def _after_sending(self, message: Message) -> None:
        if isinstance(message, _ORDERED) and getattr(message, "action", "") != "get":
            self._mark = object()
        if self.direct is not None and isinstance(message, _VISIBLE):
            self.direct.note_emitted()

    def _reply_direct(self, reply: Response) -> None:
        assert self.direct is not None
        self.direct.reply(reply)

    def _report(self, message: Message) -> None:
        self._write(pack([message]))

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
