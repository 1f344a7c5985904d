"""Sending and looking that keep the interpreter's lock: nothing is waited for that is not there."""

from __future__ import annotations

import socket
import threading

import pytest

from microkernel.wire.nonblocking_io import AdaptiveSpin, send

_EVER = 3600.0


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_what_is_there_is_seen_and_what_is_not_is_not_waited_for() -> None:
    ours, theirs = pair()
    patience = AdaptiveSpin(_EVER, gives_way=True)
    with ours, theirs:
        assert send(theirs.fileno(), b"a")
        assert send(theirs.fileno(), b"b" * 60_000)
        assert (patience.look(ours.fileno()), len(patience.look(ours.fileno()))) == (b"a", 60_000)
        patience.moment = 0.0
        assert patience.look(ours.fileno()) == b""
        theirs.close()
        assert AdaptiveSpin(_EVER, gives_way=True).look(ours.fileno()) == b""
        assert not send(ours.fileno(), b"nobody")
    assert AdaptiveSpin(0.0, gives_way=True).look(-1) == b""
    assert not send(-1, b"nowhere")


def test_a_full_socket_is_not_waited_for() -> None:
    ours, theirs = pair()
    with ours, theirs:
        while send(ours.fileno(), b"x" * 1000):
            continue
        with pytest.raises(BlockingIOError):
            ours.send(b"x" * 1000, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("gives_way", [True, False])
def test_looks_that_take_too_long_become_rare_and_one_in_time_brings_them_back(gives_way: bool) -> None:
    patience = AdaptiveSpin(0.0, gives_way=gives_way)
    looks = [answer for answer in range(1000) if _waits(patience)]
    assert looks[:5] == [0, 2, 6, 14, 30]
    assert looks[-1] - looks[-2] == AdaptiveSpin.LONGEST + 1
    patience.learn(-1.0)
    assert [_waits(patience) for _ in range(3)] == [True, False, True]


def _waits(patience: AdaptiveSpin) -> bool:
    """Whether there was a look, which was in vain."""
    if patience.should_spin():
        patience.learn(patience.moment + 1)
        return True
    return False


def test_what_was_there_already_says_nothing_of_looks() -> None:
    ours, theirs = pair()
    patience = AdaptiveSpin(0.0, gives_way=True)
    with ours, theirs:
        patience.learn(1.0)
        assert [_answered_at_once(patience, ours, theirs) for _ in range(4)] == [False, True, False, True]


def _answered_at_once(patience: AdaptiveSpin, ours: socket.socket, theirs: socket.socket) -> bool:
    """Whether there was a look at an answer that is there."""
    theirs.send(b"answer")
    return patience.look(ours.fileno()) == b"answer" or ours.recv(10) != b"answer"


def test_who_calls_in_turn_with_others_does_not_look() -> None:
    """He would keep the lock from them."""
    ours, theirs = pair()
    patience, looks = AdaptiveSpin(_EVER, gives_way=True), []

    def call() -> None:
        looks.append(_answered_at_once(patience, ours, theirs))

    with ours, theirs:
        call()
        for _ in range(2):
            other = threading.Thread(target=call)
            other.start()
            other.join()
            call()
        call()
    assert looks == [True, False, False, False, False, True]
