"""The worker's side of a guest's connections, without a guest: late connections, and what is kept of them."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from microkernel.worker.wasm.guest_sockets import MAX_CONNECTIONS, Connections, failure


class BrokerClient:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.answers: list[Future[int]] = []

    def request(self, host: str, port: int, seconds: float) -> Future[int]:
        self.answers.append(Future())
        return self.answers[-1]


@pytest.fixture
def broker() -> BrokerClient:
    return BrokerClient()


@pytest.fixture
def guest(broker: BrokerClient) -> Any:
    """The functions that a guest calls, by name."""
    made = Connections(broker)  # type: ignore[arg-type]
    functions = made.functions()

    class Guest:
        wait = staticmethod(made.wait)

        def __getattr__(self, name: str) -> Any:
            return functions[name]

    yield Guest()
    for number in range(MAX_CONNECTIONS + 1):
        made.close(number)
    os.close(made._arrivals)


def pair() -> tuple[socket.socket, int]:
    """Return a server's end, and a descriptor to hand over."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return server.accept()[0], client.detach()


def is_open(handle: int) -> bool:
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


def test_a_pending_connection_is_ready_when_it_has_arrived(guest: Any, broker: BrokerClient) -> None:
    assert guest.connect(7, "h", 80, 0.0)[0] == "EINPROGRESS"
    assert guest.connect(7, "h", 80, 0.0)[0] == "EINPROGRESS"
    assert len(broker.answers) == 1, "it is asked for once"
    assert guest.wait({}, [], [7], 0.0) == (0, [], [])
    assert guest.read(7, 1, 0.0)[0] == "ENOTCONN"
    theirs, handle = pair()
    with theirs:
        answering = threading.Thread(target=broker.answers[0].set_result, args=(handle,))
        answering.start()
        assert guest.wait({}, [], [7], 20.0) in ((0, [], []), (0, [], [7]))
        answering.join()
        assert guest.wait({}, [], [7], 20.0) == (0, [], [7])
        assert guest.connect(7, "h", 80, 0.0) is None
        assert guest.write(7, "x", 1.0) == 1
        assert theirs.recv(10) == b"x"


@pytest.mark.parametrize("is_late", [True, False])
def test_a_connection_that_is_no_longer_wanted_is_closed(is_late: bool, guest: Any, broker: BrokerClient) -> None:
    theirs, handle = pair()
    with theirs:
        guest.connect(7, "h", 80, 0.0)
        steps = [lambda: guest.close(7), lambda: broker.answers[0].set_result(handle)]
        for step in steps if is_late else reversed(steps):
            step()
        assert not is_open(handle)


def test_a_connection_that_arrives_after_its_timeout_is_closed(guest: Any, broker: BrokerClient) -> None:
    theirs, handle = pair()
    with theirs:
        assert guest.connect(7, "h", 80, 0.01)[0] == "ETIMEDOUT"
        broker.answers[0].set_result(handle)
        assert not is_open(handle)
        assert guest.read(7, 1, 0.0)[0] == "EBADF"


def test_pending_connections_count_like_established_ones(guest: Any, broker: BrokerClient) -> None:
    for number in range(MAX_CONNECTIONS):
        assert guest.connect(number, "h", 80, 0.0)[0] == "EINPROGRESS"
    assert guest.connect(MAX_CONNECTIONS, "h", 80, 0.0)[0] == "EMFILE"
    assert len(broker.answers) == MAX_CONNECTIONS
    guest.close(0)
    assert guest.connect(MAX_CONNECTIONS, "h", 80, 0.0)[0] == "EINPROGRESS"


def test_a_handshake_that_fails_leaves_no_connection(guest: Any, broker: BrokerClient) -> None:
    theirs, handle = pair()
    with theirs:
        guest.connect(7, "h", 80, 0.0)
        broker.answers[0].set_result(handle)
        guest.connect(7, "h", 80, 0.0)
        theirs.sendall(b"no TLS at all, and long enough to be seen as that")
        assert guest.secure(7, "h", "", 0, 5.0)[0] == "SSLError"
        assert guest.read(7, 1, 0.0)[0] == "EBADF"
        assert not is_open(handle)


@pytest.mark.parametrize(("authorities", "fault"), [("no certificate", "SSLError"), ("\u4e2d", "EILSEQ")])
def test_invalid_authorities_are_returned_as_a_failure(
    authorities: str, fault: str, guest: Any, broker: BrokerClient
) -> None:
    theirs, handle = pair()
    with theirs:
        guest.connect(7, "h", 80, 0.0)
        broker.answers[0].set_result(handle)
        guest.connect(7, "h", 80, 0.0)
        assert guest.secure(7, "h", authorities, 2**32 - 1, 5.0)[0] == fault
        assert not is_open(handle)


def test_failures_have_names_that_a_guest_knows() -> None:
    assert failure(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) == ("ECONNREFUSED", "refused")
    assert failure(socket.gaierror(socket.EAI_NONAME, "no name")) == ("EAI_NONAME", "no name")
    assert failure(TimeoutError("timed out")) == ("ETIMEDOUT", "timed out")
    assert failure(ssl.SSLCertVerificationError(1, "not verified")) == ("SSLCertVerificationError", "not verified")
    assert failure(OSError("odd")) == ("EIO", "odd")
