"""Socket pairs between the kernel and a worker, and in which direction descriptors may pass."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from microkernel.hosts.worker.socket_pairs import _SO_PASSRIGHTS, blocking_pair


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pair(opened: ExitStack, **options: bool) -> tuple[socket.socket, socket.socket]:
    ours, theirs = blocking_pair(**options)
    opened.enter_context(ours)
    opened.enter_context(theirs)
    return ours, theirs


def needs_passrights(end: socket.socket) -> None:
    try:
        end.getsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS)
    except OSError:
        pytest.skip("this system has no SO_PASSRIGHTS (Linux 6.16)")


def test_no_descriptor_can_be_sent_to_the_kernel(opened: ExitStack) -> None:
    ours, theirs = pair(opened)
    needs_passrights(ours)
    with pytest.raises(PermissionError):
        socket.send_fds(theirs, [b"x"], [0])
    theirs.send(b"x")
    assert ours.recv(8) == b"x"


def test_the_kernel_sends_descriptors_down(opened: ExitStack) -> None:
    ours, theirs = pair(opened)
    socket.send_fds(ours, [b"x"], [0])
    data, descriptors, _, _ = socket.recv_fds(theirs, 8, 1)
    os.close(descriptors[0])
    assert data == b"x"


def test_the_zygote_may_send_the_handles_of_workers(opened: ExitStack) -> None:
    ours, theirs = pair(opened, takes_descriptors=True)
    socket.send_fds(theirs, [b"x"], [0])
    _, descriptors, _, _ = socket.recv_fds(ours, 8, 1)
    os.close(descriptors[0])
    assert len(descriptors) == 1
