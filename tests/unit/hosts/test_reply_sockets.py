"""Reply lanes: which thread owns the socket, and whose replies arrive on it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import CallFailed, CallTimeout, KernelError
from microkernel.hosts.worker.reply_sockets import LANES, ReplySocket
from microkernel.wire import frames, messages
from microkernel.wire.codec import Raw
from microkernel.wire.nonblocking_io import AdaptiveSpin
from microkernel.wire.session import pack
from tests.harness.waiting import eventually
from tests.unit.hosts.test_kernel_channel import ImmediateReactor
from tests.unit.wire.test_nonblocking_io import pair


def lane(end: socket.socket, *, taken: bool = False) -> ReplySocket:
    others: list[Any] = [None] * (LANES - 1)
    spin = AdaptiveSpin(0.001, yields=True)
    made = ReplySocket(0, None, end, deque(others), ImmediateReactor(), print, print, int, spin)  # type: ignore[arg-type]
    made._taken = taken
    return made


def test_a_lane_is_closed_by_the_caller_that_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    seen: list[int] = []

    def try_receive(_spin: AdaptiveSpin, descriptor: int) -> bytes:
        waited_on.close()
        os.fstat(descriptor)
        seen.append(descriptor)
        return b""

    monkeypatch.setattr(AdaptiveSpin, "try_receive", try_receive)
    waited_on.answer(messages.Response(1))
    with theirs:
        reply = waited_on.wait(1, deadline=2.0**40)
    assert reply is not None
    assert seen
    assert ours.fileno() == -1


def test_a_reply_sent_before_the_end_counts_however_late_it_is_read() -> None:
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    with theirs:
        theirs.send(pack([messages.Response(1)]))
        waited_on.answer(messages.Response(1, failure=messages.Failure(kind="it was replaced")))
        waited_on.close()
        reply = waited_on.wait(1, deadline=2.0**40)
    assert reply is not None
    assert reply.failure is None
    assert ours.fileno() == -1


@pytest.mark.parametrize("ids", [(1, 2), (2, 1)])
def test_a_reply_that_is_handed_over_goes_to_its_call(ids: tuple[int, int]) -> None:
    """The first caller has its reply; the replacement of its plugin is noticed when the second caller has the lane."""
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    with theirs:
        theirs.send(pack([messages.Response(1)]))
        waited_on.wait(1, deadline=2.0**40)
        waited_on.take()
        for id in ids:
            waited_on.answer(messages.Response(id))
        reply = waited_on.wait(2, deadline=2.0**40)
        assert reply is not None
        assert reply.id == 2
        waited_on.close()


def test_a_call_keeps_its_deadline_while_it_waits_for_the_reactor(tmp_path: Path) -> None:
    """Events emitted before a reply arrive before it, but not at the cost of the deadline."""
    plugin = tmp_path / "one.py"
    plugin.write_text(
        "from microkernel import IPlugin, expose\n"
        "class Plugin(IPlugin):\n"
        "    def start(self): pass\n"
        "    def stop(self): pass\n"
        "    @expose\n"
        "    def tell(self): self.api.emit('one.told')\n"
    )
    go_on, waited = threading.Event(), threading.Event()

    def keep_busy() -> None:
        go_on.wait(30)
        waited.set()

    with Kernel(plugin) as kernel:
        kernel.core.reactor.post(keep_busy)
        for _ in range(LANES + 1):
            with pytest.raises(CallTimeout):
                kernel.call("one.tell", timeout=0.1)
        assert not waited.is_set()
        go_on.set()
        assert kernel.call("one.tell") is None
        record = kernel.core.registry.get("one")
        assert (record.mailbox.in_flight, list(record.incoming)) == (0, []), "the plugin is done with all of them"


def test_a_free_lane_is_closed_at_once_and_a_caller_that_takes_it_then_gets_a_reply() -> None:
    ours, theirs = pair()
    waited_on = lane(ours)
    with theirs:
        waited_on.close()
        assert ours.fileno() == -1
        waited_on.take()
        waited_on.answer(messages.Response(1))
        assert waited_on.wait(1, deadline=2.0**40) is not None


@pytest.mark.parametrize("frames", [[range(2, 6)], [[2], [3], [4], [5]]], ids=["in one frame", "in many"])
def test_a_worker_that_keeps_replying_to_no_call_is_malformed(frames: list[list[int]]) -> None:
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    malformed: list[KernelError] = []

    def end(error: KernelError) -> None:
        malformed.append(error)
        waited_on.answer(messages.Response(1, failure=messages.Failure(kind="it died")))

    waited_on._malformed = end
    with theirs:
        for ids in frames:
            theirs.send(pack([messages.Response(id) for id in ids]))
        theirs.send(pack([messages.Response(1)]))
        reply = waited_on.wait(1, deadline=2.0**40)
        waited_on.close()
    assert [error.id for error in malformed] == ["MK0215"]
    assert reply is not None


def test_a_few_replies_to_another_call_are_skipped() -> None:
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    refused: list[KernelError] = []
    waited_on._malformed = refused.append
    with theirs:
        theirs.send(pack([messages.Response(id) for id in (2, 3, 4, 1)]))
        reply = waited_on.wait(1, deadline=2.0**40)
        waited_on.close()
    assert (reply is not None and reply.id, refused) == (1, [])


def test_a_frame_larger_than_a_datagram_is_refused_at_its_header() -> None:
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    malformed: list[KernelError] = []
    waited_on._malformed = malformed.append
    with theirs:
        theirs.send(frames.head(frames.DATAGRAM - frames.HEAD + 1) + b"\x91")
        waited_on.wait(1, deadline=time.monotonic() + 0.001)
        waited_on.close()
    assert [error.id for error in malformed] == ["MK0215"]
    assert f"over the limit of {frames.DATAGRAM - frames.HEAD:,}" in malformed[0].text


def test_a_reply_sent_by_the_channel_leaves_its_notice_on_the_lane() -> None:
    """The reactor may have the reply before its caller has read where it is: the lane also serves the next call."""
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    waited_on._drain = lambda heard: heard()
    with theirs:
        waited_on.answer(messages.Response(1, Raw(b"\x07"), elsewhere=True))
        theirs.send(pack([messages.Response(1, elsewhere=True)]))
        reply = waited_on.wait(1, deadline=2.0**40)
        assert reply is not None
        assert bytes(reply.value) == b"\x07"
        assert (len(waited_on._free), waited_on._taken) == (LANES, False)
        waited_on.take()
        theirs.send(pack([messages.Response(2)]))
        assert waited_on.wait(2, deadline=2.0**40) is not None
        waited_on.close()


def test_a_lane_is_not_free_before_a_notice_that_comes_after_the_deadline() -> None:
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    with theirs:
        waited_on.answer(messages.Response(1, elsewhere=True))
        assert waited_on.wait(1, deadline=0.0) is not None
        assert waited_on not in waited_on._free
        theirs.send(pack([messages.Response(1, elsewhere=True)]))
        waited_on._read_late()
        assert waited_on in waited_on._free
        waited_on.close()


GIVING = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def give(self, size: int) -> bytes: return bytes(size)
    @expose
    def fail(self, size: int) -> None: raise ValueError("x" * size)
"""


@pytest.mark.parametrize("level", ["process", "sandbox", "wasm"])
def test_replies_of_any_size_arrive_and_leave_every_lane_free(tmp_path: Path, level: Any) -> None:
    edge = frames.DATAGRAM
    (tmp_path / "giver.py").write_text(GIVING)
    with Kernel(tmp_path / "giver.py", isolation=level) as kernel:
        for size in (0, edge - 100, *range(edge - 32, edge + 2), edge + 100, 3 * edge, 1 << 20):
            assert kernel.call("giver.give", size) == bytes(size)
        for _ in range(2 * LANES):
            assert len(kernel.call("giver.give", 2 * edge)) == 2 * edge
        with pytest.raises(CallFailed, match="ValueError"):
            kernel.call("giver.fail", 2 * edge)
        instance = kernel.core.registry.get("giver").instance
        assert instance is not None
        runner: Any = instance.runner
        eventually(lambda: len(runner._free) == LANES, "every lane is free")
        assert not any(each._closed or each._watched for each in runner._reply_sockets)


def test_a_late_reply_leaves_its_lane_usable() -> None:
    """The reactor reads it before its caller has abandoned the call, so that it is handed to the lane."""
    ours, theirs = pair()
    waited_on = lane(ours, taken=True)
    waited_on._received = waited_on.answer
    with theirs:
        assert waited_on.wait(1, deadline=0.0) is None
        theirs.send(pack([messages.Response(1)]))
        waited_on._read_late()
        assert waited_on in waited_on._free
        waited_on.take()
        theirs.send(pack([messages.Response(2)]))
        reply = waited_on.wait(2, deadline=2.0**40)
        waited_on.close()
    assert reply is not None
    assert reply.id == 2
