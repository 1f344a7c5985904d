"""The kernel's end of a channel to a worker, with a real socket pair and no worker."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable

import pytest

from microkernel.hosts.worker import kernel_channel as channel_module
from microkernel.hosts.worker.kernel_channel import KernelChannel
from microkernel.hosts.worker.time_share import TimeShares
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode_message
from microkernel.wire.nonblocking_io import send
from microkernel.wire.session import Session, pack
from tests.unit.wire.test_nonblocking_io import pair


class ImmediateReactor:
    """A Reactor that runs work at once."""

    def watch(self, fd: int, ready: Callable[[], object], *, write: bool = False) -> None: ...
    def unwatch(self, fd: int) -> None: ...

    def post(self, work: Callable[[], object]) -> None:
        work()


class EmptySource:
    def take(self, limit: int) -> list[messages.Message]:
        return []


class DeferredReactor(ImmediateReactor):
    """A Reactor that runs nothing until the test says so."""

    def __init__(self) -> None:
        self.work: list[Callable[[], object]] = []

    def post(self, work: Callable[[], object]) -> None:
        self.work.append(work)


class ConcurrentSource:
    """A message source to which two threads add at the same time: each finds two messages."""

    def __init__(self) -> None:
        self.letters: list[messages.Message] = []

    def take(self, limit: int) -> list[messages.Message]:
        taken, self.letters = self.letters, []
        return taken

    def waiting(self) -> int:
        return len(self.letters)


def test_of_two_concurrent_senders_one_has_the_channel_pumped() -> None:
    down, worker_down = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    up, worker_up = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source, reactor = ConcurrentSource(), DeferredReactor()
    channel = KernelChannel(down, up, source, reactor, print, print, print)  # type: ignore[arg-type]
    channel.pump()
    worker_down.recv(1 << 16)  # the hello
    for round in range(3):
        source.letters += [messages.Ping(2 * round), messages.Ping(2 * round + 1)]
        channel.post_pump()
        channel.post_pump()
        (errand,) = reactor.work
        reactor.work.clear()
        errand()
        assert worker_down.recv(1 << 16) == pack([messages.Ping(2 * round), messages.Ping(2 * round + 1)])
    channel.close()
    worker_down.close()
    worker_up.close()


def test_messages_sent_before_an_exit_are_read_even_if_the_worker_left_ours_unread() -> None:
    """The system first reports that the other end has not read everything (ECONNRESET), and only then returns what it
    sent."""
    down, worker_down = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    up, worker_up = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard: list[messages.Message] = []
    channel = KernelChannel(down, up, EmptySource(), ImmediateReactor(), heard.append, print, print)  # type: ignore[arg-type]
    channel.open()
    channel.send_up(messages.Credit(1))
    worker_up.send(Session("worker").hello())
    for number in range(100):
        worker_up.send(pack([messages.Ping(number)]))
    worker_up.close()
    worker_down.close()
    channel.drain(channel.close)
    assert [message.id for message in heard] == [*range(100)]  # type: ignore[union-attr]


def test_a_channel_is_not_closed_while_a_thread_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sends by the descriptor's number, which may be reused if it is closed meanwhile."""
    down, worker_down = pair()
    up, worker_up = pair()
    channel = KernelChannel(down, up, EmptySource(), ImmediateReactor(), print, print, print)  # type: ignore[arg-type]
    closing = threading.Thread(target=channel.close)
    sent: list[bool] = []

    def sends(descriptor: int, data: bytes) -> bool:
        if descriptor == worker_up.fileno() or not data:
            return True
        if not sent:
            sent.append(True)
            closing.start()
            closing.join(0.2)  # it would have finished by then
            assert closing.is_alive()
            os.fstat(descriptor)
        return send(descriptor, data)

    monkeypatch.setattr(channel_module, "send", sends)
    with worker_down, worker_up:
        channel.send_down(messages.Ping(1))
        closing.join()
    assert sent
    assert down.fileno() == -1


class PausedReactor(ImmediateReactor):
    """A Reactor that keeps scheduled work."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def later(self, _seconds: float, work: Callable[[], object]) -> None:
        self.waiting.append(work)


class ConfinedChannel:
    """A channel of an untrusted worker that has used up its share of time."""

    def __init__(self) -> None:
        self.broken: list[object] = []
        self.handled: list[messages.Message] = []
        down, self._far_down = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        up, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = KernelChannel(
            down,
            up,
            EmptySource(),
            PausedReactor(),
            self.handled.append,
            self.broken.append,
            print,  # type: ignore[arg-type]
        )
        account = TimeShares(lambda: 0.0).account()
        self.channel.confine(None, account)
        self.worker.send(Session("plugin").hello())
        self.channel.read()
        account.spend(1.0)

    def __enter__(self) -> ConfinedChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.worker.close()
        self._far_down.close()


def test_messages_of_a_flooding_worker_are_not_decoded_before_their_turn() -> None:
    """Each of its answers has the kernel drain the channel; that must not create many messages in memory."""
    with ConfinedChannel() as given:
        given.worker.send(pack([messages.Ping(1)]))
        given.channel.read()  # now it pauses
        frame = pack([messages.Ping(2)] * 4000)
        for _ in range(1000):
            with contextlib.suppress(BlockingIOError):
                given.worker.send(frame, socket.MSG_DONTWAIT)
            given.channel.drain(print)
        assert given.handled == [messages.Ping(1)]
        assert given.channel._inbox.unread <= channel_module._MAX_BUFFERED + len(frame)


def test_an_untrusted_worker_cannot_leave_many_bytes_unread() -> None:
    with ConfinedChannel() as given:
        answer, count = messages.Response(1, Raw(encode_message(bytes(1 << 20)))), 0
        while not given.broken:
            given.channel.send_up(answer)
            count += 1
        assert 10 < count < 20


def test_one_answer_may_have_the_largest_size() -> None:
    with ConfinedChannel() as given:
        given.channel.send_up(messages.Response(1, Raw(encode_message(bytes(40 << 20)))))
        assert not given.broken
