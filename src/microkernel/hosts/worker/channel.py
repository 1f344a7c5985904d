"""The kernel's end of a channel to a worker.

D, down: what the feed has, in batches; never sent where that would block, its overflow stays in the mailbox. U, up:
what the worker says, read on the reactor's thread, and the answers to it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from microkernel.errors import KernelError, ProtocolError
from microkernel.hosts.worker.inbox import Inbox
from microkernel.hosts.worker.rate_limit import Rate
from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.kernel.ports import MessageSource, Reactor
from microkernel.wire import frames, messages
from microkernel.wire.messages import Message
from microkernel.wire.nonblocking_io import receive, send
from microkernel.wire.session import Session, pack

_BATCH = 64
_READS_PER_TURN = 16
"""How many datagrams of one worker are read before the others have their turn."""
_MAX_UNREAD = 4096 + 64
"""How many datagrams of answers may wait for a worker to read them: 256 MiB and some. One that asks and never reads is
no plugin."""
# Bytes of answers that may wait for a worker that is not trusted, before one more.
_MAX_UNREAD_BYTES = 16 * 1024 * 1024
_MAX_CONTROL = 100_000
"""How many messages outside the feed may wait for it."""
# More bytes than a socket's buffer can hold: what is read beyond them was sent meanwhile.
_MAX_BUFFERED = 2 * 1024 * 1024
# Seconds after which a full socket is tried again where there is no descriptor to watch it with.
_RETRY_SECONDS = 0.02
_NONBLOCKING = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class SendQueue:
    """Datagrams for one socket, in order, sent when there is room. Used under its owner's rule of one at a time."""

    def __init__(self, target: socket.socket, reactor: Reactor, on_writable: Callable[[], object]) -> None:
        self._socket = target
        self._reactor = reactor
        self._on_writable = on_writable
        self.unsent: deque[bytes] = deque()
        """Datagrams that wait."""
        self.unsent_bytes = 0
        self._is_watching = False
        self._writable_handle = -1
        self.closed = False

    def put(self, frame: bytes) -> None:
        """To be sent by ``flush``."""
        self.unsent.extend(frames.datagrams(frame))
        self.unsent_bytes += len(frame)

    def send(self, frame: bytes) -> None:
        """At once, if there is room and nothing before it."""
        if self.unsent or self.closed or len(frame) > frames.DATAGRAM or not send(self._socket.fileno(), frame):
            self.put(frame)
            self.flush()

    def flush(self) -> bool:
        """Send what can be sent; whether that was all."""
        while self.unsent and not self.closed:
            try:
                if not send(self._socket.fileno(), self.unsent[0]):
                    self._socket.send(self.unsent[0], _NONBLOCKING)
            except BlockingIOError:
                if not self._is_watching:
                    self._is_watching = True
                    self._reactor.post(self._watch_writable)
                return False
            except OSError:
                self.closed = True  # the other end is gone: its end is reported elsewhere
                break
            self.unsent_bytes -= len(self.unsent.popleft())
        return not self.unsent

    def close(self) -> None:
        """On the reactor's thread."""
        self.closed = True
        self._unwatch_writable()

    def _watch_writable(self) -> None:
        if self.closed:
            return
        try:
            self._writable_handle = os.dup(self._socket.fileno())  # the descriptor itself may be watched for reading
        except OSError:  # there is no descriptor left: it is tried again, without being told of room
            self._reactor.later(_RETRY_SECONDS, self._became_writable)
            return
        self._reactor.watch(self._writable_handle, self._became_writable, write=True)

    def _became_writable(self) -> None:
        self._unwatch_writable()
        self._on_writable()

    def _unwatch_writable(self) -> None:
        self._is_watching = False
        if self._writable_handle >= 0:
            self._reactor.unwatch(self._writable_handle)
            os.close(self._writable_handle)
            self._writable_handle = -1


class KernelChannel:
    """``pump`` on any thread that cannot be killed, ``post_pump`` on any at all, the rest on the reactor's."""

    def __init__(
        self,
        down: socket.socket,
        up: socket.socket,
        source: MessageSource,
        reactor: Reactor,
        received: Callable[[Message], object],
        malformed: Callable[[KernelError], object],
        hung_up: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._down_socket = down
        self._up_socket = up
        self._down = SendQueue(down, reactor, self.pump)
        self._up = SendQueue(up, reactor, self._flush_up)
        self._session = Session("kernel")
        self._inbox = Inbox(received, reactor.post, source=self)
        self._malformed = malformed
        self._hung_up = hung_up
        self._control: deque[Message] = deque()
        self._pumping = threading.Lock()
        self._pump_token = deque([True], maxlen=1)
        """To have the reactor pump: there, or taken by whoever asked for it."""
        self._pump_again = False
        self._broken = False
        self.rate: Rate | None = None
        """How many datagrams a second it may send; None: any."""
        self._max_unread_bytes = 0
        self._down.put(self._session.hello())
        self._up.put(self._session.hello())

    @property
    def received(self) -> Callable[[Message], object]:
        """Called with each message of the worker."""
        return self._inbox.handle

    @received.setter
    def received(self, handle: Callable[[Message], object]) -> None:
        self._inbox.handle = handle

    @property
    def hello_received(self) -> bool:
        """Whether the worker's Hello was received."""
        return self._session.peer is not None

    def confine(self, rate: Rate | None, account: TimeAccount) -> None:
        """Its worker is not trusted: what is done for it is charged, and few bytes wait for it."""
        self.rate = rate
        self._inbox.account = account
        self._max_unread_bytes = _MAX_UNREAD_BYTES

    def open(self) -> None:
        self._reactor.watch(self._up_socket.fileno(), self.read)
        self._flush_up()
        self.pump()

    def close(self) -> None:
        """Close both sockets. What the worker sent and nobody read is lost: ``drain`` before."""
        self._inbox.close()
        with self._pumping:  # who sends does so by the descriptor's number, which may be another's after this
            self._down.close()
        self._up.close()
        for end in (self._down_socket, self._up_socket):
            self._reactor.unwatch(end.fileno())
            end.close()

    # Down

    def send_down(self, message: Message) -> None:
        self._control.append(message)
        self.pump()
        if len(self._control) > _MAX_CONTROL:
            self._overflow("it does not read what it is told")

    def post_pump(self) -> None:
        """Have it pumped soon. Who finds the errand taken was here before it is run: nothing is overlooked. A second
        run, which a kill in here may cause, is harmless; none would not be."""
        if self._pump_token:
            try:
                self._pump_token.pop()
                self._reactor.post(self._run_posted_pump)
            except IndexError:  # another thread was quicker
                return
            except BaseException:
                self._reactor.post(self._run_posted_pump)
                raise

    def _run_posted_pump(self) -> None:
        self._pump_token.append(True)  # first: what is put from now on needs another
        self.pump()

    def pump(self) -> None:
        """Send what waits. If another thread is at it, that one looks again before it leaves."""
        self._pump_again = True
        while self._pump_again and self._pumping.acquire(blocking=False):
            try:
                self._pump_again = False
                self._push()
            finally:
                self._pumping.release()

    def _push(self) -> None:
        down = self._down
        while (not down.unsent or down.flush()) and (batch := self._next_batch()):
            down.send(pack(batch))

    def _next_batch(self) -> Sequence[Message]:
        if not self._control:
            return self._source.take(_BATCH)
        batch: list[Message] = []
        while self._control:
            batch.append(self._control.popleft())
        return batch

    # Up

    def send_up(self, message: Message) -> None:
        """An answer to what the worker asked."""
        is_over = bool(self._max_unread_bytes) and self._up.unsent_bytes > self._max_unread_bytes
        self._up.send(pack([message]))
        if is_over or len(self._up.unsent) > _MAX_UNREAD:
            self._overflow("it does not read the answers to what it asks")

    def _overflow(self, reason: str) -> None:
        self._up.close()
        self._down.close()
        self._reject(ProtocolError("MK0215", reason=reason))

    def _reject(self, error: ProtocolError) -> None:
        """Nothing that it says counts any more."""
        self._broken = True
        self._inbox.close()
        self._reactor.unwatch(self._up_socket.fileno())
        self._malformed(error)

    def _flush_up(self) -> None:
        self._up.flush()

    def read(self) -> None:
        """One turn: some datagrams, for 2 ms at most."""
        if self._broken or self._inbox.is_behind:
            return
        self._inbox.begin_turn()
        for _ in range(_READS_PER_TURN):
            data = self._receive()
            if not data or not self._inbox.put(self.decode(data)) or self._broken:
                break
        self._inbox.end_turn()

    def drain(self, drained: Callable[[], object]) -> None:
        """Call ``drained`` when all that the worker has sent until now is handled; what it sends meanwhile may have no
        end, and does not count."""
        self._inbox.begin_turn()
        left = _MAX_BUFFERED - self._inbox.unread
        while left > 0 and not self._broken and (data := self._receive()):
            left -= len(data)
            self._inbox.put_data(data)
        self._inbox.end_turn()
        self._inbox.call_after(drained)

    def pause_reading(self, seconds: float, wake: Callable[[], object]) -> None:
        self._reactor.unwatch(self._up_socket.fileno())
        self._reactor.later(seconds, wake)

    def resume_reading(self) -> None:
        if not self._broken:
            self._reactor.watch(self._up_socket.fileno(), self.read)

    def _receive(self) -> bytes:
        """The next datagram; empty where there is none."""
        try:
            data = receive(self._up_socket.fileno())
        except ConnectionResetError:  # it left something of ours unread; what it said itself is still to come
            return self._receive()
        except OSError:
            data = b""
        if data == b"":
            self._reactor.unwatch(self._up_socket.fileno())
            hung_up, self._hung_up = self._hung_up, _already_reported
            hung_up()
        return data or b""

    def decode(self, data: bytes) -> Iterable[Message | None]:
        """Nothing where it is broken."""
        try:
            if len(data) > frames.DATAGRAM:
                raise ProtocolError("MK0215", reason=f"a datagram over the limit of {frames.DATAGRAM:,} bytes")
            if self.rate is not None and not self.rate.take():
                raise ProtocolError("MK0215", reason=f"over its limit of {self.rate.per_second:,g} frames a second")
            received = self._session.receive_gradually(data)
        except ProtocolError as error:
            self._reject(error)
            return ()
        return received if type(received) is list else self._decode_lazily(received)

    def _decode_lazily(self, received: Iterable[Message | None]) -> Iterator[Message | None]:
        try:
            yield from received
        except ProtocolError as error:
            self._reject(error)


def _already_reported() -> None:
    """Its end has been reported."""


ANSWERS = (messages.Reply, messages.Credit)
"""What goes by U; everything else goes by D."""
