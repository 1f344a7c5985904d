"""What a zygote does when its kernel goes."""

from __future__ import annotations

import os
import select
import socket
import sys

from microkernel.hosts._zygote import _spawn


def test_a_kernel_that_goes_with_answers_unread_is_one_that_has_gone() -> None:
    # A killed kernel has most often not read everything: its end is then ECONNRESET to the zygote, not end-of-file.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lifeline, our_lifeline = os.pipe()
    zygote = _spawn(sys.executable, "process", "", theirs.fileno(), lifeline)
    theirs.close()
    os.close(lifeline)
    assert select.select([ours], [], [], 20)[0], "it says that it is ready"

    ours.close()

    _, words = zygote.communicate(timeout=20)
    os.close(our_lifeline)
    assert (zygote.returncode, words) == (0, b"")
