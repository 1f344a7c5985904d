"""The kernel's end of a channel to a worker: two SEQPACKET sockets, down and up.

Down (D) carries batches from the message source. It is never written to where that would block; the overflow stays in
the mailbox. Up (U) carries what the worker sends, read on the reactor's thread, and the answers to it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from microkernel.errors import KernelError, ProtocolError
from microkernel.hosts.worker.inbox import Inbox
from microkernel.hosts.worker.time_share import TimeAccount
from microkernel.kernel.ports import MessageSource, Reactor
from microkernel.kernel.runtime.token_bucket import TokenBucket
from microkernel.wire import frames, messages
from microkernel.wire.messages import Message
from microkernel.wire.nonblocking_io import receive, send
from microkernel.wire.session import Session, pack

_BATCH = 64
# How many datagrams of one worker are read before other descriptors have their turn.
_READS_PER_TURN = 16
# How many datagrams of answers may wait for a worker to read them: over 256 MiB. A worker that asks and never reads is
# faulty.
_MAX_UNREAD = 4096 + 64
# Bytes of answers that may wait for an untrusted worker, before one more.
_MAX_UNREAD_BYTES = 16 * 1024 * 1024
# How many messages outside the source may wait for a worker.
_MAX_CONTROL = 100_000
# More bytes than a socket's buffer holds: what is read beyond them was sent meanwhile.
_MAX_BUFFERED = 2 * 1024 * 1024
# Seconds after which a full socket is tried again if no descriptor is left to watch it with.
_RETRY_SECONDS = 0.02
_NONBLOCKING = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class SendQueue:
    """Datagrams for one socket, sent in order when it is writable. The owner ensures that one thread at a time uses
    it."""

    def __init__(self, target: socket.socket, reactor: Reactor, on_writable: Callable[[], object]) -> None:
        self._socket = target
        self._reactor = reactor
        self._on_writable = on_writable
        # Datagrams that wait for the socket.
        self.unsent: deque[bytes] = deque()
        self.unsent_bytes = 0
        self._is_watching = False
        self._writable_handle = -1
        self.closed = False

    def put(self, frame: bytes) -> None:
        """Queue a frame for ``flush``."""
        self.unsent.extend(frames.datagrams(frame))
        self.unsent_bytes += len(frame)

    def send(self, frame: bytes) -> None:
        """Send a frame at once if the socket is writable and nothing is queued; otherwise queue it."""
        if self.unsent or self.closed or len(frame) > frames.DATAGRAM or not send(self._socket.fileno(), frame):
            self.put(frame)
            self.flush()

    def flush(self) -> bool:
        """Send what can be sent. Return whether nothing is left."""
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
                self.closed = True  # the other end is closed, which is reported elsewhere
                break
            self.unsent_bytes -= len(self.unsent.popleft())
        return not self.unsent

    def close(self) -> None:
        """Stop sending. On the reactor's thread."""
        self.closed = True
        self._unwatch_writable()

    def _watch_writable(self) -> None:
        if self.closed:
            return
        try:
            self._writable_handle = os.dup(self._socket.fileno())  # the descriptor itself may be watched for reading
        except OSError:  # no descriptor is left: try again later instead of watching
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
    """Sends to and receives from one worker.

    ``pump`` may be called on any thread that cannot be killed, ``post_pump`` on any thread; the rest on the reactor's
    thread.
    """

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
        # Token for posting ``pump`` to the reactor: present, or taken by the thread that has posted it.
        self._pump_token = deque([True], maxlen=1)
        self._pump_again = False
        self._broken = False
        # Limit on the datagrams per second that the worker may send; None for no limit.
        self.rate: TokenBucket | None = None
        self._max_unread_bytes = 0
        # Its first number is 1 while something may wait that was not sent down, see ``ports.DirectLink``.
        self._waiting_flag: memoryview | None = None
        self._down.put(self._session.hello())
        self._up.put(self._session.hello())

    def handle_with(self, handle: Callable[[Message], object]) -> None:
        """Pass messages from the worker to this function, from the next turn on, or the next datagram."""
        self._inbox.handle_with(handle)

    @property
    def hello_received(self) -> bool:
        """Whether the worker's Hello was received."""
        return self._session.peer is not None

    def confine(self, rate: TokenBucket | None, account: TimeAccount) -> None:
        """Treat the worker as untrusted: charge the time spent on it, and bound the bytes that wait for it."""
        self.rate = rate
        self._inbox.charge_to(account)
        self._max_unread_bytes = _MAX_UNREAD_BYTES

    def open(self) -> None:
        self._reactor.watch(self._up_socket.fileno(), self.read)
        self._flush_up()
        self.pump()

    def close(self) -> None:
        """Close both sockets. What the worker sent and was not read is lost; call ``drain`` before."""
        self._inbox.close()
        with self._pumping:  # a sender uses the descriptor's number, which may be reused after this
            self._down.close()
        self._up.close()
        for end in (self._down_socket, self._up_socket):
            self._reactor.unwatch(end.fileno())
            end.close()
        self._waiting_flag = None

    # Down

    def clear_flag(self, flag: memoryview) -> None:
        """Clear the first number of ``flag`` after each pump that leaves nothing unsent, see ``ports.DirectLink``."""
        self._waiting_flag = flag

    def send_down(self, message: Message) -> None:
        self._control.append(message)
        self.pump()
        if len(self._control) > _MAX_CONTROL:
            self._overflow("it does not read what it is told")

    def post_pump(self) -> None:
        """Have the reactor pump soon.

        A caller that finds the token taken came before that pump runs, so nothing is overlooked. A second run, which a
        kill in here may cause, is harmless; a missing one would not be.
        """
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
        self._pump_token.append(True)  # first: messages that arrive from now on need another pump
        self.pump()

    def pump(self) -> None:
        """Send what waits. If another thread is pumping, that thread checks again before it returns."""
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
        if self._waiting_flag is not None:
            self._clear_waiting_flag(self._waiting_flag)

    def _clear_waiting_flag(self, flag: memoryview) -> None:
        """Clear the flag if everything was sent. It is cleared first, because a delivery that is put meanwhile sets it
        afterwards."""
        flag[1] = (flag[1] + 1) & 0xFFFFFFFF
        flag[0] = 0
        if self._down.unsent or self._source.is_waiting:
            flag[0] = 1

    def _next_batch(self) -> Sequence[Message]:
        if not self._control:
            return self._source.take(_BATCH)
        batch: list[Message] = []
        while self._control:
            batch.append(self._control.popleft())
        return batch

    # Up

    def send_up(self, message: Message) -> None:
        """Send an answer to a request of the worker."""
        is_over = bool(self._max_unread_bytes) and self._up.unsent_bytes > self._max_unread_bytes
        self._up.send(pack([message]))
        if is_over or len(self._up.unsent) > _MAX_UNREAD:
            self._overflow("it does not read the answers to what it asks")

    def _overflow(self, reason: str) -> None:
        self._up.close()
        self._down.close()
        self._reject(ProtocolError("MK0215", reason=reason))

    def _reject(self, error: ProtocolError) -> None:
        """Stop reading from the worker and report it as malformed."""
        self._broken = True
        self._inbox.close()
        self._reactor.unwatch(self._up_socket.fileno())
        self._malformed(error)

    def _flush_up(self) -> None:
        self._up.flush()

    def read(self) -> None:
        """Read and handle datagrams for one turn: 2 ms at most."""
        if self._broken or self._inbox.is_behind:
            return
        self._inbox.begin_turn()
        for _ in range(_READS_PER_TURN):
            data = self._receive()
            if not data or not self._inbox.put(self.decode(data)) or self._broken:
                break
        self._inbox.end_turn()

    def drain(self, drained: Callable[[], object]) -> None:
        """Call ``drained`` when all that the worker has sent so far is handled.

        What it sends meanwhile may never end, and does not count.
        """
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
        """Return the next datagram; empty if there is none."""
        try:
            data = receive(self._up_socket.fileno())
        except ConnectionResetError:  # the worker left something unread; what it sent itself is still to come
            return self._receive()
        except OSError:
            data = b""
        if data == b"":
            self._reactor.unwatch(self._up_socket.fileno())
            hung_up, self._hung_up = self._hung_up, _already_reported
            hung_up()
        return data or b""

    def decode(self, data: bytes) -> Iterable[Message | None]:
        """Return the messages of a datagram; none if it is malformed, which is reported."""
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
    """Does nothing: that the channel was closed has been reported."""


# Message types that go by U; all others go by D.
ANSWERS = (messages.Response, messages.Credit, messages.DirectRoute)
