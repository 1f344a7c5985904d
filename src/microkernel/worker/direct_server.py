"""The callee's ends of direct channels: calls in, answers out."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from microkernel.errors import ProtocolError
from microkernel.sdk.client.channel import DIRECT_LANE, ChannelClosed
from microkernel.wire import messages
from microkernel.wire.codec import Struct
from microkernel.wire.direct import ANSWER_WITHIN, pack_direct, read_call
from microkernel.wire.messages import DirectCall, Invoke, Message, Response
from microkernel.wire.nonblocking_io import SPIN_SECONDS, AdaptiveSpin, receive, receive_into_room, send
from microkernel.wire.topics import covers
from microkernel.worker.buffer_mappings import BufferMappings

# Seconds after which calls that were answered are reported, for the counts that the kernel shows.
_REPORT_AFTER = 0.1
# Calls of one caller in a row before other messages have their turn.
_MOST_IN_A_ROW = 16


class _End:
    """One end, with the caller that it belongs to."""

    def __init__(self, offer: messages.DirectOffer, end: socket.socket, exists: Callable[[str], bool]) -> None:
        self.number = offer.channel
        self.end = end
        self.fileno = end.fileno()
        self._calls = offer.calls
        self._exists = exists
        # Methods that the caller may call, by their targets. None disappears.
        self.methods: dict[str, str] = {}

    def method_of(self, target: str) -> str:
        """Return the method that the caller may call by this target; empty if it may not, or the method does not exist.
        The kernel decides on such a call."""
        method = target.partition(".")[2]
        may = self._calls is None or any(covers(pattern, target) for pattern in self._calls)
        if not may or not self._exists(method):
            return ""
        self.methods[target] = method
        return method


class _Served(Struct, eq=False):
    """The call that is being handled. ``is_adopted``: the kernel knows of it. A Struct, because it is created by one C
    call."""

    end: _End
    call: DirectCall
    is_adopted: bool = False
    is_cancelled: bool = False


class DirectServer:
    """A ``sdk.client.channel.DirectCalls``. On the main thread, which handles one call at a time.

    ``mappings`` has the ends that the kernel has passed; ``report`` sends a message to the kernel; ``parse`` returns
    the messages of a datagram from the socket ``down``; ``opened`` is called when there is an end.

    A call on a channel must not overtake what was put into this instance's mailbox before. The kernel keeps a flag
    whether anything waits there that it has not sent, which is read first, and then the socket; a call that finds
    something in either is handed back, and the kernel puts it behind that. The kernel counts how often it has cleared
    the flag: if the number has not changed since before a poll that found nothing, the socket need not be read.
    """

    def __init__(
        self,
        mappings: BufferMappings,
        report: Callable[[Message], object],
        down: int,
        parse: Callable[[bytes], Sequence[Message]],
        opened: Callable[[], object],
    ) -> None:
        self._mappings = mappings
        self._report = report
        self._down = down
        self._parse = parse
        self._opened = opened
        self.ends: dict[int, _End] = {}
        self.served: _Served | None = None
        # What the instance has emitted last, what of that a Ping was sent after, and what the kernel has confirmed.
        self._emitted: object = None
        self._pinged: object = None
        self._confirmed: object = None
        self._id = 0
        self._last: _End | None = None
        self._in_a_row = self._turn = 0
        # Calls that were answered and not reported yet, by the numbers of their channels.
        self._answered: dict[int, int] = {}
        self._spin = AdaptiveSpin(SPIN_SECONDS, yields=False)
        self._poll = select.poll()
        self._poll.register(down, select.POLLIN)
        self._waiting: Sequence[int] = (1, 0)

    def offer(self, message: messages.DirectOffer, accepts: Callable[[str], bool] | None) -> None:
        try:
            end = self._mappings.take_end(message.channel)
        except OSError:  # out of descriptors
            self._report(messages.DirectStatus(message.channel, open=False))
            return
        if accepts is None or self._mappings.waiting is None:
            end.close()
            self._report(messages.DirectStatus(message.channel, open=False))
            return
        self._waiting = memoryview(self._mappings.waiting).cast("I")
        served = _End(message, end, accepts)
        self.ends[served.fileno] = served
        self._poll.register(served.fileno, select.POLLIN)
        self._opened()
        self._report(messages.DirectStatus(message.channel))

    def note_emitted(self) -> None:
        """The instance has sent the kernel what its callers must find when they have their answers. On any thread."""
        self._emitted = object()

    def confirm(self) -> None:
        self._confirmed = self._pinged

    # Calls

    def receive(self, timeout: float | None) -> Sequence[Message]:
        """Return the next call, or messages from the kernel; empty after ``timeout`` seconds."""
        last = self._last
        if last is not None and timeout != 0.0 and self._in_a_row < _MOST_IN_A_ROW:
            data = self._spin.try_receive(last.fileno)
            if data and (call := self._accept(last, data, -1)):
                self._in_a_row += 1
                return call
        self._in_a_row = 0
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            wait = min(left or _REPORT_AFTER, _REPORT_AFTER) if self._answered and left != 0.0 else left
            cleared = self._waiting[1]
            ready = self._poll.poll(None if wait is None else 1000 * wait)
            if not ready:
                if left is not None and wait == left:
                    return ()
                self._report_served()
                continue
            if ready[0][0] == self._down:
                return self._read_down() or ()
            self._turn += 1  # a caller that always has a call ready must not keep the others waiting
            for index in range(len(ready)):
                if received := self._read(ready[(self._turn + index) % len(ready)][0], cleared):
                    return received

    def _read(self, descriptor: int, cleared: int) -> Sequence[Message]:
        end = self._last = self.ends[descriptor]
        try:
            data = receive_into_room(end.end)
        except OSError:
            data = b""
        return self._accept(end, data, cleared)

    def _accept(self, end: _End, data: bytes, cleared: int) -> Sequence[Message]:
        """Return the Invoke for a call; nothing if it is handed back, or the channel is closed.

        ``cleared``: the kernel's count before a poll that found nothing from it; -1 if there was no poll.
        """
        try:
            call = read_call(data) if data else None
        except ProtocolError:  # the caller runs other code than ours
            call = None
        if call is None:
            self._drop(end)
            return ()
        method = end.methods.get(call.target) or end.method_of(call.target)
        earlier: Sequence[Message] | None = None
        if (
            self._waiting[0]
            or not method
            or (self._waiting[1] != cleared and (earlier := self._read_down()) is not None)
        ):
            self._hand_back(end, call)
            return earlier or ()
        self.served = _Served(end, call)
        self._id -= 1  # negative: the kernel's numbers are positive
        return (Invoke(self._id, method, call.args, call.kwargs, call.deadline, call.chain, DIRECT_LANE),)

    def _read_down(self) -> Sequence[Message] | None:
        """Return the messages of the next datagram from the kernel; None if none has arrived. Raises ChannelClosed."""
        try:
            data = receive(self._down)
        except OSError:
            data = b""
        if data == b"":
            raise ChannelClosed
        return self._parse(data) if data is not None else None

    def _hand_back(self, end: _End, call: DirectCall) -> None:
        self._report(
            messages.DirectReturn(
                call.id, call.target, call.args, call.kwargs, call.deadline, call.slot, call.chain, end.number
            )
        )
        self._notify(end, call.id)

    def _drop(self, end: _End) -> None:
        self._poll.unregister(end.fileno)
        del self.ends[end.fileno]
        self._last = None
        end.end.close()
        self._report(messages.DirectStatus(end.number, self._answered.pop(end.number, 0), open=False))

    # While a call is handled

    def adopt(self) -> None:
        """Tell the kernel of the call that is being handled, before its handler waits for another plugin: otherwise the
        kernel could not see a circle of plugins that wait for each other."""
        served = self.served
        if served is not None and not served.is_adopted:
            served.is_adopted = True
            call = served.call
            self._report(
                messages.DirectAdopt(served.end.number, call.id, call.target, call.deadline, call.slot, call.chain)
            )

    def receive_control(self, timeout: float | None) -> Sequence[Message]:
        """Return messages from the kernel, or a Cancel if the caller of the present call has closed the channel. Empty
        after ``timeout`` seconds."""
        served = self.served
        poll = select.poll()
        poll.register(self._down, select.POLLIN)
        if served is not None and not served.is_cancelled:
            poll.register(served.end.fileno, 0)  # reports only that the other end is closed
        ready = dict(poll.poll(None if timeout is None else 1000 * timeout))
        if served is not None and served.end.fileno in ready:
            served.is_cancelled = True
            return (messages.Cancel(self._id),)
        return (self._read_down() or ()) if ready else ()

    # Answers

    def reply(self, reply: Response) -> None:
        """Answer the call that was handled: on the channel if it took only a moment and the kernel need not know of
        it."""
        served, self.served = self.served, None
        assert served is not None
        end, call = served.end, served.call
        self._answered[end.number] = self._answered.get(end.number, 0) + 1
        reply.id = call.id
        is_plain = not (served.is_adopted or reply.shares) and self._emitted is self._confirmed
        if is_plain and time.monotonic() - call.sent < ANSWER_WITHIN:
            data = pack_direct(reply)
            if data and send(end.fileno, data):
                if time.monotonic() - call.sent < ANSWER_WITHIN:
                    return
                # It may have been sent too late, so that the caller no longer expects it here.
                reply = Response(call.id, elsewhere=True)
        self._report(
            messages.DirectReply(call.id, reply.value, reply.failure, reply.shares, reply.elsewhere, end.number)
        )
        if not reply.elsewhere:
            self._notify(end, call.id)
        if self._emitted is not self._confirmed and self._emitted is not self._pinged:
            self._pinged = self._emitted
            self._report(messages.Ping(1))

    def _notify(self, end: _End, id: int) -> None:
        """Notify the caller that the kernel has the answer, or will have. It may have stopped waiting here."""
        with suppress(OSError):
            send(end.fileno, pack_direct(Response(id, elsewhere=True)))

    def _report_served(self) -> None:
        answered, self._answered = self._answered, {}
        for channel, count in answered.items():
            self._report(messages.DirectStatus(channel, count))
