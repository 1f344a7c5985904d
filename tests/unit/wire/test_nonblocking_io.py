"""Sending and receiving that keep the interpreter's lock: they never wait."""

from __future__ import annotations

import socket
import threading

import pytest

from microkernel.wire.nonblocking_io import AdaptiveSpin, send

_EVER = 3600.0


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_receive_returns_at_once_with_or_without_data() -> None:
    ours, theirs = pair()
    spin = AdaptiveSpin(_EVER, yields=True)
    with ours, theirs:
        assert send(theirs.fileno(), b"a")
        assert send(theirs.fileno(), b"b" * 60_000)
        assert (spin.try_receive(ours.fileno()), len(spin.try_receive(ours.fileno()))) == (b"a", 60_000)
        spin.window = 0.0
        assert spin.try_receive(ours.fileno()) == b""
        theirs.close()
        assert AdaptiveSpin(_EVER, yields=True).try_receive(ours.fileno()) == b""
        assert not send(ours.fileno(), b"nobody")
    assert AdaptiveSpin(0.0, yields=True).try_receive(-1) == b""
    assert not send(-1, b"nowhere")


def test_a_full_socket_is_not_waited_for() -> None:
    ours, theirs = pair()
    with ours, theirs:
        while send(ours.fileno(), b"x" * 1000):
            continue
        with pytest.raises(BlockingIOError):
            ours.send(b"x" * 1000, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("yields", [True, False])
def test_vain_polls_become_rare_until_one_is_in_time(yields: bool) -> None:
    spin = AdaptiveSpin(0.0, yields=yields)
    looks = [answer for answer in range(1000) if _waits(spin)]
    assert looks[:5] == [0, 2, 6, 14, 30]
    assert looks[-1] - looks[-2] == AdaptiveSpin.MAX_PAUSE + 1
    spin.record(-1.0)
    assert [_waits(spin) for _ in range(3)] == [True, False, True]


def _waits(spin: AdaptiveSpin) -> bool:
    """Return whether there was a poll, which was in vain."""
    if spin.should_spin():
        spin.record(spin.window + 1)
        return True
    return False


def test_data_that_had_arrived_does_not_change_the_pauses() -> None:
    ours, theirs = pair()
    spin = AdaptiveSpin(0.0, yields=True)
    with ours, theirs:
        spin.record(1.0)
        assert [_answered_at_once(spin, ours, theirs) for _ in range(4)] == [False, True, False, True]


def _answered_at_once(spin: AdaptiveSpin, ours: socket.socket, theirs: socket.socket) -> bool:
    """Return whether there was a poll for an answer that has arrived."""
    theirs.send(b"answer")
    return spin.try_receive(ours.fileno()) == b"answer" or ours.recv(10) != b"answer"


def test_alternating_callers_do_not_poll() -> None:
    """Polling would keep the lock from the others."""
    ours, theirs = pair()
    spin, looks = AdaptiveSpin(_EVER, yields=True), []

    def call() -> None:
        looks.append(_answered_at_once(spin, ours, theirs))

    with ours, theirs:
        call()
        for _ in range(2):
            other = threading.Thread(target=call)
            other.start()
            other.join()
            call()
        call()
    assert looks == [True, False, False, False, False, True]
