"""A reply whose request no longer waits has no receiver: the shared memory attached to it is given back at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from microkernel.hosts.thread.memory_channel import MemoryChannel
from microkernel.wire import frames
from microkernel.wire.messages import Attachment, Call, Message, ReleaseBuffers, Response
from microkernel.wire.session import Session, pack
from microkernel.worker.worker_channel import WorkerChannel

SHARES = (Attachment(10, hold=7, block=1), Attachment(3, data=b"abc"), Attachment(20, hold=9, block=2))
HOLDS = ReleaseBuffers([7, 9])


class Events:
    """The kernel's end of a thread's channel. It records what it gets, and answers nothing."""

    def __init__(self) -> None:
        self.got: list[Message] = []

    def received(self, message: Message) -> None:
        self.got.append(message)

    def take(self, limit: int) -> list[Message]:
        return []


@pytest.fixture
def thread() -> Iterator[tuple[MemoryChannel, Events]]:
    events = Events()
    channel = MemoryChannel(events, events)  # type: ignore[arg-type]
    yield channel, events
    channel.finish()


class WorkerEnd:
    """A worker's channel on real sockets, and the kernel's end of them."""

    def __init__(self) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        self.sockets = [each for pair in pairs for each in pair]
        (down, _), (up, self.kernel) = pairs
        self.channel = WorkerChannel(down, up, ())
        self.session = Session("kernel")
        self.kernel.send(self.session.hello())
        self.kernel.settimeout(10.0)
        self.channel.read_available()
        assert self.got() == []  # each end has the other's Hello

    def got(self) -> list[Message]:
        return self.session.receive(self.kernel.recv(frames.DATAGRAM))


@pytest.fixture
def worker() -> Iterator[WorkerEnd]:
    end = WorkerEnd()
    yield end
    for each in end.sockets:
        each.close()


def test_a_late_reply_at_thread_gives_its_memory_back(thread: tuple[MemoryChannel, Events]) -> None:
    channel, events = thread
    assert channel.request(1, Call(1, "a.b"), time.monotonic()) is None
    channel.push(Response(1, shares=SHARES))
    assert events.got[1:] == [HOLDS]


def test_a_late_reply_without_shared_memory_at_thread_sends_nothing(thread: tuple[MemoryChannel, Events]) -> None:
    channel, events = thread
    channel.push(Response(1, shares=SHARES[1:2]))
    assert events.got == []


def test_a_reply_that_is_awaited_at_thread_keeps_its_memory(thread: tuple[MemoryChannel, Events]) -> None:
    channel, events = thread
    replies: list[Response] = []
    forget = channel.request_later(1, Call(1, "a.b"), replies.append)
    channel.push(Response(1, shares=SHARES))
    assert [reply.shares for reply in replies] == [SHARES]
    forget()
    assert len(events.got) == 1
    channel.push(Response(1, shares=SHARES))
    assert events.got[1:] == [HOLDS]


def test_a_late_reply_in_a_worker_gives_its_memory_back(worker: WorkerEnd) -> None:
    channel = worker.channel
    assert channel.request(1, Call(1, "a.b"), time.monotonic()) is None
    assert [type(message) for message in worker.got()] == [Call]
    worker.kernel.send(pack([Response(1, shares=SHARES)]))
    channel.read_available()
    assert worker.got() == [HOLDS]


def test_a_late_reply_in_a_worker_is_found_while_another_request_waits(worker: WorkerEnd) -> None:
    worker.kernel.send(pack([Response(1, shares=SHARES), Response(2, shares=SHARES)]))
    reply = worker.channel.request(2, Call(2, "a.b"), time.monotonic() + 10.0)
    assert reply is not None
    assert [share.hold for share in reply.shares] == [7, 0, 9]
    assert [message for _ in range(2) for message in worker.got()][1:] == [HOLDS]


def test_a_late_reply_without_shared_memory_in_a_worker_sends_nothing(worker: WorkerEnd) -> None:
    worker.kernel.send(pack([Response(1, shares=SHARES[1:2])]))
    worker.channel.read_available()
    worker.kernel.setblocking(False)
    with pytest.raises(BlockingIOError):
        worker.got()
