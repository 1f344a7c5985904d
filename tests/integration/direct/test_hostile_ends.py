"""A process plugin that breaks the protocol of direct channels harms itself, and never the kernel."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from microkernel.errors import CallFailed
from microkernel.hosts.worker.direct_link import DirectLink, waiting_page
from microkernel.testing.harness import Workspace, plugin
from microkernel.wire.direct import pack_direct, read_call, read_reply
from microkernel.wire.messages import EMPTY_LIST, EMPTY_MAP, DirectCall
from tests.integration.direct.test_direct_channels import CALLEE, CALLER, connect

HOSTILE = (
    CALLER
    + '''
def channel(self) -> Any:
    """The worker's own channel: what plugin code at this level can reach if it wants to."""
    return self.api._instance._channel

@expose
def send(self, what: str) -> str:
    from microkernel.wire import messages
    channel = self.channel()
    route = channel._routes["callee"]
    if what == "garbage":
        route._end.send(b"\\xc1" * 1000)
    elif what == "flood":
        try:
            for _ in range(100_000):
                route._end.send(b"\\x90", 0x40)
        except OSError:  # full, or closed meanwhile
            pass
    elif what == "unpermitted":
        call = messages.Call(10**9, "callee.secret", deadline=time.monotonic() + 20, slot=-1)
        replies = []
        channel._answers[call.id] = replies.append
        assert route.call(call)
        reply = route.receive(call.id)
        assert reply is not None and reply.elsewhere, reply
        channel._read_until(time.monotonic() + 20, lambda: bool(replies))
        return replies[0].failure.kind
    elif what == "reports":
        for number in range(10):
            for id in (-1, 0, 1, 10**18):
                channel.send(messages.DirectAdopt(number, id, "callee.echo", 0.0, 0, ["x"] * 100))
                channel.send(messages.DirectAdopt(number, id, "nobody.echo", 0.0))
                channel.send(messages.DirectReply(id, channel=number))
                channel.send(messages.DirectReturn(id, "callee.echo", channel=number))
                channel.send(messages.DirectStatus(number, -5))
                channel.send(messages.DirectStatus(number, 10**18, open=True))
        for number in range(10):
            channel.send(messages.DirectStatus(number, open=False))
    return "sent"
'''
)


@pytest.mark.parametrize("what", ["garbage", "flood", "reports"])
def test_a_hostile_caller_loses_its_channel_at_most(what: str, tmp_path: Path) -> None:
    sources = {"callee": plugin(CALLEE), "caller": plugin(HOSTILE), "other": plugin(CALLER)}
    with Workspace("process", tmp_path, direct_after=1).run(**sources) as harness:
        connect(harness)
        connect(harness, "other")
        assert harness.call("caller.send", what) == "sent"
        assert harness.call("other.many", 100) == 100
        assert harness.call("callee.echo", 1) == 1
        assert {info.state for info in harness.kernel.list()} == {"active"}
        assert {info.generation for info in harness.kernel.list()} == {1}
        assert harness.call("other.call", "callee.echo", [1]) == 1


def test_a_caller_without_permission_is_refused_by_the_kernel(tmp_path: Path) -> None:
    secret = CALLEE + "\n@expose\ndef secret(self) -> str:\n    return 'secret'\n"
    allowed = 'permissions = { call = ["callee.echo"], on = ["go"], emit = ["out.*"] }'
    sources = {"callee": plugin(secret), "caller": plugin(HOSTILE, manifest=allowed)}
    with Workspace("process", tmp_path, direct_after=1).run(**sources) as harness:
        connect(harness)
        assert harness.call("caller.send", "unpermitted") == "PermissionDenied"


def test_a_callee_that_answers_garbage_does_not_harm_its_caller(tmp_path: Path) -> None:
    body = (
        CALLEE
        + """
@expose
def garbage(self) -> None:
    self.api._instance._channel.direct.served.end.end.send(b"\\xc1" * 100)
"""
    )
    with Workspace("process", tmp_path, direct_after=1).run(callee=plugin(body), caller=plugin(CALLER)) as harness:
        connect(harness)
        with suppress(CallFailed):  # unless the callee was so slow that its answer came through the kernel
            harness.call("caller.call", "callee.garbage", [], 0.5)
        connect(harness)
        assert harness.call("caller.call", "callee.echo", [1]) == 1


def test_a_worker_cannot_truncate_the_page_that_the_kernel_uses() -> None:
    page, waiting = waiting_page()
    with pytest.raises(PermissionError):
        os.ftruncate(page, 0)
    os.close(page)
    waiting[0] = 1
    assert [*waiting[:2]] == [1, 0]


def test_a_closed_link_returns_what_the_callee_has_not_received() -> None:
    link = DirectLink(waiting_page()[1])
    caller = socket.socket(fileno=link.caller_end.detach())
    link.caller_end = caller.dup()
    callee = link.callee_end.dup()
    for id in range(3):
        caller.send(pack_direct(DirectCall(id, "p.m", EMPTY_LIST, EMPTY_MAP, 1.0, -1, [], 0.5)))
    caller.send(b"no call")
    assert read_call(callee.recv(65536)).id == 0
    assert [call.id for call in link.close(cancel=False)] == [1, 2]
    assert [read_reply(caller.recv(65536)).elsewhere for _ in range(2)] == [True, True]
    with pytest.raises(BrokenPipeError):
        caller.send(b"late", socket.MSG_NOSIGNAL)
    callee.send(b"answer")  # to the call that it has received
    assert caller.recv(65536) == b"answer"
    callee.close()
    assert caller.recv(65536) == b""
    caller.close()
