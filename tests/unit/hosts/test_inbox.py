"""Messages of a worker are handled in turns of bounded length, in order, each once."""

from __future__ import annotations

from collections.abc import Callable

from microkernel.hosts.worker.inbox import TURN, Inbox
from microkernel.wire.messages import Message, Ping


class Reactor:
    """Counts the time that handling takes, and records what was posted."""

    def __init__(self, cost: float) -> None:
        self.now = 0.0
        self.cost = cost
        self.posted: list[Callable[[], object]] = []
        self.handled: list[int] = []
        self.inbox = Inbox(self.handle, self.posted.append, lambda: self.now)

    def handle(self, message: Message) -> None:
        assert isinstance(message, Ping)
        self.now += self.cost
        self.handled.append(message.id)

    def turn(self) -> None:
        (work,) = self.posted
        self.posted.clear()
        work()


def pings(start: int, end: int) -> list[Message]:
    return [Ping(id) for id in range(start, end)]


def test_a_frame_that_takes_long_is_handled_in_several_turns() -> None:
    reactor = Reactor(TURN / 4)
    reactor.inbox.begin_turn()
    assert not reactor.inbox.put(pings(0, 10))
    lengths = [len(reactor.handled)]
    while reactor.posted:
        reactor.turn()
        lengths.append(len(reactor.handled))
    assert lengths == [4, 8, 10]
    assert reactor.handled == [*range(10)]


def test_cheap_messages_take_one_turn() -> None:
    reactor = Reactor(0.0)
    reactor.inbox.begin_turn()
    assert reactor.inbox.put(pings(0, 5000))
    assert len(reactor.handled) == 5000
    assert not reactor.posted


def test_messages_behind_a_backlog_wait_for_it() -> None:
    reactor = Reactor(TURN)
    reactor.inbox.begin_turn()
    reactor.inbox.put(pings(0, 3))
    reactor.inbox.put(pings(3, 5))
    while reactor.posted:
        reactor.turn()
    assert reactor.handled == [*range(5)]


def test_work_runs_after_the_messages_before_it() -> None:
    reactor = Reactor(TURN)
    done: list[int] = []
    reactor.inbox.begin_turn()
    reactor.inbox.put(pings(0, 3))
    reactor.inbox.call_after(lambda: done.append(len(reactor.handled)))
    assert done == []
    while reactor.posted:
        reactor.turn()
    assert done == [3]
    reactor.inbox.call_after(lambda: done.append(-1))
    assert done == [3, -1]


def test_a_closed_inbox_drops_messages_and_runs_waiting_work() -> None:
    reactor = Reactor(TURN)
    done: list[int] = []
    reactor.inbox.begin_turn()
    reactor.inbox.put(pings(0, 3))
    reactor.inbox.call_after(lambda: done.append(1))
    reactor.inbox.close()
    assert done == [1]
    reactor.turn()
    assert reactor.handled == [0]


def test_a_message_that_closes_the_inbox_is_the_last() -> None:
    """A message that disconnects the plugin ends its frame."""
    handled: list[Message] = []

    def handle(message: Message) -> None:
        handled.append(message)
        inbox.close()

    inbox = Inbox(handle, lambda work: work())
    inbox.begin_turn()
    assert not inbox.put(pings(0, 3))
    assert len(handled) == 1
