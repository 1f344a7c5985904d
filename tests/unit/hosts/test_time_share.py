"""The reactor's time that untrusted workers take is bounded, for each worker and for all together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from microkernel.hosts.confined.request_socket import RequestSocket
from microkernel.hosts.worker.inbox import TURN, Inbox
from microkernel.hosts.worker.time_share import BURST, SHARE, TimeAccount, TimeShares
from microkernel.wire.messages import Message, Ping


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def used(clock: Clock, accounts: list[TimeAccount], seconds: float, turn: float = TURN) -> float:
    """Return the seconds that they take within a period if each does as much as it may, in turns, as on one reactor."""
    began, taken, ready = clock.now, 0.0, [0.0] * len(accounts)
    while clock.now - began < seconds:
        due = [number for number, at in enumerate(ready) if at <= clock.now]
        if not due:
            clock.now = min(ready)
            continue
        for number in due:
            clock.now += turn
            taken += turn
            ready[number] = clock.now + accounts[number].spend(turn)
    return taken


@pytest.mark.parametrize("count", [1, 2, 5])
def test_workers_that_take_too_much_share_one_limit(count: int) -> None:
    clock = Clock()
    shares = TimeShares(clock)
    taken = used(clock, [shares.account() for _ in range(count)], 60.0)
    assert 0.4 * SHARE * 60 < taken < 60 * SHARE * 1.1 + count * BURST


def test_a_worker_below_its_share_never_pauses() -> None:
    clock = Clock()
    account = TimeShares(clock).account()
    for _ in range(1000):
        clock.now += 0.01
        assert account.spend(0.01 * SHARE * 0.9) == 0.0


def test_a_burst_is_free_and_one_long_turn_is_paid_for() -> None:
    clock = Clock()
    account = TimeShares(clock).account()
    assert account.spend(BURST) == 0.0
    clock.now += 1.0
    assert account.spend(0.5) == pytest.approx((0.5 - BURST) / SHARE)


def test_a_worker_that_takes_little_does_not_pause_for_one_that_takes_much() -> None:
    clock = Clock()
    shares = TimeShares(clock)
    greedy, modest = shares.account(), shares.account()
    for _ in range(100):
        clock.now += TURN
        greedy.spend(TURN)
        assert modest.spend(TURN / 20) == 0.0
    assert greedy.spend(TURN) > 0.0


def test_an_overdraft_is_forgotten_with_its_worker() -> None:
    shares = TimeShares(Clock())
    one, other = shares.account(), shares.account()
    assert one.spend(5.0) > 0.0
    one.close()
    assert other.spend(0.0) == 0.0
    assert other.spend(0.1) == pytest.approx(0.1 / SHARE)


class Channel:
    """As much of a channel as an inbox uses; every message takes a quarter of a turn."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.posted: list[Callable[[], object]] = []
        self.wakes: list[tuple[float, Callable[[], object]]] = []
        self.handled: list[int] = []
        self.decoded = 0
        self.is_read = True
        self.inbox = Inbox(self.handle, self.posted.append, self.clock, source=self)
        self.inbox.charge_to(TimeShares(self.clock, self.clock).account())

    def handle(self, message: Message) -> None:
        assert isinstance(message, Ping)
        self.clock.now += TURN / 4
        self.handled.append(message.id)

    def decode(self, data: bytes) -> Iterable[Message]:
        self.decoded += 1
        return [Ping(byte) for byte in data]

    def pause_reading(self, seconds: float, wake: Callable[[], object]) -> None:
        self.is_read = False
        self.wakes.append((seconds, wake))

    def resume_reading(self) -> None:
        self.is_read = True

    def run(self) -> float:
        """Run turns until nothing is left. Return the seconds that it paused."""
        rested = 0.0
        while self.posted or self.wakes:
            if self.posted:
                self.posted.pop(0)()
                continue
            seconds, wake = self.wakes.pop(0)
            assert self.inbox.is_behind
            self.clock.now += seconds
            rested += seconds
            wake()
        return rested


def test_an_inbox_pauses_within_a_frame_and_continues() -> None:
    channel = Channel()
    channel.inbox.begin_turn()
    channel.inbox.put([Ping(number) for number in range(1000)])
    channel.inbox.end_turn()
    rested = channel.run()
    worked = 1000 * TURN / 4
    assert channel.handled == [*range(1000)]
    assert rested == pytest.approx((worked - BURST) / SHARE - (worked - BURST), rel=0.4)
    assert channel.is_read


def test_data_that_arrives_during_a_pause_is_kept_encoded() -> None:
    channel = Channel()
    channel.inbox.begin_turn()
    channel.inbox.put([Ping(0)] * int(3 * BURST / (TURN / 4)))
    channel.inbox.end_turn()
    while not channel.wakes:
        channel.posted.pop(0)()
    done: list[int] = []
    for number in range(1, 50):
        channel.inbox.put_data(bytes([number]) * 10)
    channel.inbox.call_after(lambda: done.append(channel.handled[-1]))
    assert (channel.decoded, channel.inbox.unread) == (0, 490)
    channel.run()
    assert channel.inbox.unread == 0
    assert done == [49]


def test_a_closed_inbox_does_not_read_again() -> None:
    channel = Channel()
    channel.inbox.begin_turn()
    channel.clock.now += 1.0
    channel.inbox.end_turn()
    channel.inbox.close()
    channel.run()
    assert not channel.is_read


class Requests(RequestSocket):
    def handle_request(self, data: bytes) -> None:
        self.seen = [*getattr(self, "seen", []), data]


class Watching:
    def __init__(self) -> None:
        self.is_read = False
        self.waiting: list[tuple[float, Callable[[], object]]] = []

    def watch(self, _fd: int, _ready: Callable[[], object]) -> None:
        self.is_read = True

    def unwatch(self, _fd: int) -> None:
        self.is_read = False

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        self.waiting.append((seconds, work))


def test_a_worker_that_sends_requests_without_pause_has_to_wait() -> None:
    reactor: Any = Watching()
    requests = Requests(reactor, print)
    requests.charge_to(TimeShares(lambda: 0.0).account())
    requests.open()
    count = 0
    while reactor.is_read:
        requests.worker_end.send(b"x")
        requests._read()
        count += 1
        assert count < 5000
    ((_, resume),) = reactor.waiting
    resume()
    assert reactor.is_read
    assert len(requests.seen) == count
    requests.close()
    requests.worker_end.close()
    resume()
    assert not reactor.is_read
