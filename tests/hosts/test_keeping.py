"""Who sends or looks by a descriptor's number must have it for as long: closed meanwhile, it may be another's."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from typing import Any

import pytest

from microkernel.hosts import _lanes, _socket_channel
from microkernel.hosts._keeping import MOMENT, Patience, glimpse, send
from microkernel.hosts._lanes import LANES, Lane
from microkernel.hosts._socket_channel import SocketChannel
from microkernel.wire import messages
from microkernel.wire.session import pack
from tests.hosts.test_socket_channel import Here, Nothing


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def lane(end: socket.socket) -> Lane:
    others: list[Any] = [None] * (LANES - 1)
    return Lane(0, None, end, deque(others), Here(), print, print, int, Patience())  # type: ignore[arg-type]


def test_what_is_there_is_seen_and_what_is_not_is_not_waited_for() -> None:
    ours, theirs = pair()
    with ours, theirs:
        assert glimpse(ours.fileno()) == b""
        assert send(theirs.fileno(), b"a")
        assert send(theirs.fileno(), b"b" * 60_000)
        assert (glimpse(ours.fileno()), len(glimpse(ours.fileno()))) == (b"a", 60_000)
        theirs.close()
        assert glimpse(ours.fileno()) == b""
        assert not send(ours.fileno(), b"nobody")
    assert glimpse(-1) == b""
    assert not send(-1, b"nowhere")


def test_a_full_socket_is_not_waited_for() -> None:
    ours, theirs = pair()
    with ours, theirs:
        while send(ours.fileno(), b"x" * 1000):
            continue
        with pytest.raises(BlockingIOError):
            ours.send(b"x" * 1000, socket.MSG_DONTWAIT)


def test_looks_that_take_too_long_become_rare_and_one_in_time_brings_them_back() -> None:
    patience, looks = Patience(), []
    for answer in range(1000):
        if patience.has_any():
            looks.append(answer)
            patience.learn(2 * MOMENT)
    assert looks[:5] == [0, 2, 6, 14, 30]
    assert looks[-1] - looks[-2] == Patience.LONGEST + 1
    patience.learn(MOMENT / 2)
    assert [patience.has_any() for _ in range(3)] == [True] * 3


def test_who_calls_in_turn_with_others_does_not_look() -> None:
    """He would keep the lock from them."""
    patience, looks = Patience(), []

    def call() -> None:
        looks.append(patience.has_any())

    call()
    for _ in range(2):
        other = threading.Thread(target=call)
        other.start()
        other.join()
        call()
    call()
    assert looks == [True, False, False, False, False, True]


def test_a_lane_is_closed_by_who_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair()
    waited_on = lane(ours).take()
    seen: list[int] = []

    def look(descriptor: int) -> bytes:
        waited_on.close()
        os.fstat(descriptor)
        seen.append(descriptor)
        return b""

    monkeypatch.setattr(_lanes, "glimpse", look)
    waited_on.answer(messages.Reply(1))
    with theirs:
        reply = waited_on.wait(1, deadline=2.0**40)
    assert reply is not None
    assert seen
    assert ours.fileno() == -1


def test_an_answer_given_before_the_end_counts_however_late_it_is_read() -> None:
    ours, theirs = pair()
    waited_on = lane(ours).take()
    with theirs:
        theirs.send(pack([messages.Reply(1)]))
        waited_on.answer(messages.Reply(1, failure=messages.Failure(kind="it was replaced")))
        waited_on.close()
        reply = waited_on.wait(1, deadline=2.0**40)
    assert reply is not None
    assert reply.failure is None
    assert ours.fileno() == -1


@pytest.mark.parametrize("ids", [(1, 2), (2, 1)])
def test_what_is_handed_over_is_for_the_call_it_answers(ids: tuple[int, int]) -> None:
    """The first has its answer; that its plugin was replaced is said when the second has the lane."""
    ours, theirs = pair()
    waited_on = lane(ours)
    with theirs:
        theirs.send(pack([messages.Reply(1)]))
        waited_on.take().wait(1, deadline=2.0**40)
        waited_on.take()
        for id in ids:
            waited_on.answer(messages.Reply(id))
        reply = waited_on.wait(2, deadline=2.0**40)
        assert reply is not None
        assert reply.id == 2
        waited_on.close()


def test_a_lane_that_nobody_has_is_closed_at_once_and_who_takes_it_then_is_answered() -> None:
    ours, theirs = pair()
    waited_on = lane(ours)
    with theirs:
        waited_on.close()
        assert ours.fileno() == -1
        waited_on.take().answer(messages.Reply(1))
        assert waited_on.wait(1, deadline=2.0**40) is not None


def test_a_channel_is_not_closed_while_a_thread_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    down, worker_down = pair()
    up, worker_up = pair()
    channel = SocketChannel(down, up, Nothing(), Here(), print, print, print)  # type: ignore[arg-type]
    closing = threading.Thread(target=channel.close)
    sent: list[bool] = []

    def sends(descriptor: int, data: bytes) -> bool:
        if descriptor == worker_up.fileno() or not data:
            return True
        if not sent:
            sent.append(True)
            closing.start()
            closing.join(0.2)  # it would be done by then
            assert closing.is_alive()
            os.fstat(descriptor)
        return send(descriptor, data)

    monkeypatch.setattr(_socket_channel, "send", sends)
    with worker_down, worker_up:
        channel.send_down(messages.Ping(1))
        closing.join()
    assert sent
    assert down.fileno() == -1
