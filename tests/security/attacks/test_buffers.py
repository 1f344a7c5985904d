"""Buffers in plugins that forge holds, hoard blocks, die with them or never release them; nothing is left over."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import suppress

import pytest

from microkernel import Buffer, Kernel
from microkernel.errors import CallFailed, KernelError, PermissionDenied, PluginDied
from microkernel.kernel.messaging.buffers import BufferAccount
from tests.harness import leftovers

from .support import Plugins, eventually, state_is

MEBIBYTE = 1024 * 1024
KEEPER = """\
from microkernel import Buffer
class Plugin(IPlugin):
    def __init__(self, api):
        self.api, self.kept, self.seen = api, [], 0
    def start(self): pass
    def stop(self): pass
    @expose
    def keep(self, data: Buffer) -> int:
        self.kept.append(data.data)
        return len(self.kept)
    @expose
    def look(self, data: Buffer) -> int:
        return len(data) + data.data[0] + data.data[-1]
    @on("frame.shown")
    def shown(self, data: Buffer, last: int = 0):
        self.seen += data.data[0] == data.data[-1] == last
    @expose
    def count(self) -> int:
        return self.seen
    @expose
    def kept_bytes(self) -> list:
        return [bytes(view[:4]) for view in self.kept]
    @expose
    def let_go(self) -> None:
        self.kept.clear()
    @expose
    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))
    @expose
    def mapped(self) -> int:
        return open("/proc/self/maps").read().count("memfd:microkernel-buffer")
    @expose
    def scribble(self, data: Buffer) -> list:
        got = []
        for attempt in (lambda: data.data.__setitem__(0, 1), lambda: memoryview(data.data).__setitem__(0, 1)):
            try:
                attempt()
            except TypeError as error:
                got.append("read-only")
        return got
"""
SENDER = """\
from microkernel.errors import KernelError
class Plugin(IPlugin):
    def __init__(self, api):
        self.api, self.kept = api, []
    def start(self): pass
    def stop(self): pass
    @expose
    def call(self, count: int, size: int) -> int:
        for n in range(count):
            data = self.api.share(bytes([n % 100]) * size)
            assert self.api.call("keeper.look", data, timeout=30) == size + 2 * (n % 100)
        return count
    @expose
    def emit(self, count: int, size: int) -> None:
        for n in range(count):
            self.api.emit("frame.shown", data=self.api.share(bytes([n % 100]) * size), last=n % 100)
    @expose
    def give(self, letter: str, size: int) -> int:
        return self.api.call("keeper.keep", self.api.share(letter.encode() * size), timeout=30)
    @expose
    def hoard(self, count: int, size: int) -> int:
        self.kept += [self.api.share(bytes(size)) for _ in range(count)]
        return len(self.kept)
    @expose
    def insist(self, size: int) -> None:
        while True:
            try:
                self.api.call("keeper.look", self.api.share(bytes(size)), timeout=30)
            except KernelError:
                pass
    @expose
    def unheard(self, count: int, size: int) -> None:
        for _ in range(count):
            self.api.emit("nobody.listens", data=self.api.share(bytes(size)))
    @expose
    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))
"""


def account(kernel: Kernel, name: str) -> BufferAccount:
    instance = kernel.core.registry.get(name).instance
    assert instance is not None
    return instance.account


def in_use(kernel: Kernel, name: str) -> int:
    return sum(not block.is_free for block in account(kernel, name).blocks)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("level", ["process", "thread"])
def test_ten_thousand_buffers_leave_no_descriptors_or_memory(plugins: Plugins, level: str) -> None:
    """Descriptors and memory are as they were after the first hundreds, here and there."""
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    with plugins.kernel(level) as kernel:

        def one_round(count: int) -> None:
            kernel.call("sender.call", count, 70_000, timeout=60)
            kernel.call("sender.emit", count, 70_000, timeout=60)
            kernel.call("sender.unheard", count, 70_000, timeout=60)
            for n in range(count // 10):
                kernel.call("keeper.look", kernel.share(bytes([n % 100]) * 70_000), timeout=30)

        def state() -> tuple[int, ...]:
            return tuple(kernel.call(f"{name}.descriptors") for name in ("keeper", "sender"))

        def is_flat() -> bool:
            """But for what is lent in advance: 4 MiB of the least blocks, each mapped and open."""
            for _ in range(2):
                kernel.core.reactor.run(kernel.core.buffers._sweep)
            now = state(), descriptors()
            return now[1] <= ours + READY and all(n <= t + READY for n, t in zip(now[0], theirs, strict=True))

        theirs, ours = state(), descriptors()
        for _ in range(5):
            one_round(650)
        eventually(lambda: kernel.call("keeper.count") == 5 * 650, "all events are handled, each intact")
        eventually(is_flat, "what nobody wants is given up, and who had mapped it hears of that")
        assert account(kernel, "sender").used <= 16 * 256 * 1024


READY = 2 * 2 * 16


def test_kill_of_the_holder_frees_its_buffers(plugins: Plugins) -> None:
    plugins.add("keeper", KEEPER, supervision={"backoff": 0.01})
    plugins.add("sender", SENDER)
    with plugins.kernel() as kernel:
        for letter in "abcdef":
            kernel.call("sender.give", letter, MEBIBYTE)
        assert in_use(kernel, "sender") >= 6
        kernel.kill("keeper")
        eventually(lambda: in_use(kernel, "sender") <= 4, "but for those that are lent to be written to")
        kernel.start("keeper")
        for letter in "ghi":
            kernel.call("sender.give", letter, MEBIBYTE)
        assert kernel.call("keeper.kept_bytes") == [b"gggg", b"hhhh", b"iiii"]
        assert len(account(kernel, "sender").blocks) <= 8


def test_buffers_stay_readable_after_the_writer_is_killed(plugins: Plugins) -> None:
    """Readers can still read them; when they release them, the memory is freed, also in the readers."""
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    with plugins.kernel() as kernel:
        before = descriptors()
        for letter in "abc":
            kernel.call("sender.give", letter, MEBIBYTE)
        written = account(kernel, "sender")
        kernel.kill("sender")
        kernel.start("sender")
        kernel.call("sender.give", "d", MEBIBYTE)
        assert kernel.call("keeper.kept_bytes") == [b"aaaa", b"bbbb", b"cccc", b"dddd"]
        assert kernel.call("keeper.mapped") >= 4
        kernel.kill("sender")
        kernel.call("keeper.let_go")
        kernel.call("keeper.count")  # its next message: its releases have been reported by now, or are with this one
        kernel.core.reactor.run(kernel.core.buffers.sweep)
        assert not written.blocks
        eventually(lambda: kernel.call("keeper.mapped") == 0, "keeper learns that they are freed")
        eventually(lambda: descriptors() <= before, "and no descriptor is left")


def test_reload_releases_the_buffers_of_the_old_instance(plugins: Plugins) -> None:
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    with plugins.kernel() as kernel:
        kernel.call("sender.give", "a", MEBIBYTE)
        kernel.reload("sender")
        kernel.call("sender.give", "b", MEBIBYTE)
        assert kernel.call("keeper.kept_bytes") == [b"aaaa", b"bbbb"]
        old = account(kernel, "keeper")
        kernel.reload("keeper")
        assert not old._leases
        assert old.closed
        assert kernel.call("keeper.kept_bytes") == []


def test_hoarded_buffers_are_limited_in_bytes(plugins: Plugins) -> None:
    """Beyond the limit, data that fits a payload is copied as one; other plugins are not affected."""
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER, limits={"shared_memory": "8MiB"})
    plugins.healthy()
    with plugins.kernel() as kernel:
        assert kernel.call("sender.hoard", 30, MEBIBYTE, timeout=30) == 30
        assert account(kernel, "sender").used <= 8 * MEBIBYTE
        assert kernel.info("sender").kept["shared"] == account(kernel, "sender").used
        kernel.call("sender.call", 3, MEBIBYTE, timeout=30)
        with pytest.raises(CallFailed, match="MK0623"):
            kernel.call("sender.hoard", 1, 20 * MEBIBYTE)
        assert kernel.call("healthy.answer") == 42


def test_small_buffers_are_limited_in_number(plugins: Plugins) -> None:
    plugins.add("sender", SENDER)
    with plugins.kernel() as kernel:
        before = descriptors()
        assert kernel.call("sender.hoard", 2000, 66_000, timeout=60) == 2000
        assert descriptors() <= before + 300
        kernel.kill("sender")
        eventually(lambda: descriptors() <= before, "its descriptors are closed")


def test_received_buffers_are_read_only(plugins: Plugins) -> None:
    plugins.add("keeper", KEEPER)
    for level in ("process", "thread"):
        with plugins.kernel(level) as kernel:
            mine = kernel.share(b"x" * MEBIBYTE)
            assert kernel.call("keeper.scribble", mine) == ["read-only"] * 2
            assert mine == b"x" * MEBIBYTE


HOSTILE = """\
import ctypes, mmap, socket
from microkernel import Buffer
from microkernel.wire.codec import Raw, encode
from microkernel.wire.messages import Call, Emit, AllocateBuffer, ReleaseBuffers, Response, Attachment
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @property
    def channel(self):
        return self.api._instance._channel
    def ask(self, message, id=10**6):
        reply = self.channel.request(id, message, time.monotonic() + 20)
        return "answered" if reply.failure is None else reply.failure.id
    @expose
    def forge(self, hold: int, size: int) -> list:
        shares, payload = (Attachment(size, hold, 1),), Raw(encode({}))
        self.channel.send(Emit("frame.shown", payload, shares))
        return [self.ask(Call(10**6, "keeper.count", deadline=time.monotonic() + 20, shares=shares))]
    @expose
    def pretend(self, hold: int) -> str:
        "Its own answer names what it does not have."
        call = self.api._instance.dispatcher._calls
        (id,) = call
        self.channel.send(Response(id, Raw(b"\\xd4\\x01\\x00"), shares=(Attachment(5, hold, 1),)))
        while not self.api.get_data("told"): time.sleep(0.01)
        return "never"
    @expose
    def given_back(self, data: Buffer) -> list:
        share = data._share
        self.channel.send(ReleaseBuffers([share.hold, share.hold, share.hold]))
        return [self.ask(Call(10**6, "keeper.look", Raw(encode([])), deadline=time.monotonic() + 20, shares=(share,)))]
    @expose
    def beyond(self, data: Buffer) -> list:
        share = data._share
        return [
            self.ask(Call(10**6, "keeper.count", deadline=time.monotonic() + 20, shares=(forged,)))
            for forged in (Attachment(size, share.hold, 1) for size in (len(data) * 2, 2**62, -1, -(2**63)))
        ]
    @expose
    def release_all(self) -> None:
        self.channel.send(ReleaseBuffers(list(range(-100, 5000)) + [2**63 - 1, -(2**63)]))
    @expose
    def map_all(self) -> list:
        "Blocks of others, by their numbers."
        got = []
        for block in (*range(1, 60), -1, 2**63 - 1):
            try:
                got.append(len(self.channel.memory.array(block)))
            except OSError:
                pass
        return got
    @expose
    def lend(self) -> list:
        return [self.ask(AllocateBuffer(10**6, size)) for size in (2**62, 2**63 - 1, -1, 0)]
    @expose
    def no_number(self) -> None:
        self.channel.memory._lender.send(b"\\xc1 what?")
        time.sleep(100)
    @expose
    def unread(self) -> str:
        end = self.channel.memory._lender
        for _ in range(5000):
            end.send(encode(1), socket.MSG_DONTWAIT)
        return "sent"
    @expose
    def on_a_lane(self) -> None:
        from microkernel.wire.session import pack
        for lane in self.channel._lanes:
            lane.send(pack([Response(1, shares=(Attachment(5, 1, 1),))]))
        time.sleep(100)
"""


def test_a_forged_hold_is_refused_and_counted(plugins: Plugins) -> None:
    """Whatever the number: of nobody, of another, given back; and more than there is."""
    plugins.add("hostile", HOSTILE)
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    with plugins.kernel() as kernel:
        kernel.call("sender.give", "s", MEBIBYTE)
        mine = kernel.share(b"m" * MEBIBYTE)
        wrong = [-1, 2**63 - 1, *account(kernel, "sender")._leases, *account(kernel, "keeper")._leases]
        for hold in wrong:
            assert kernel.call("hostile.forge", hold, 5, timeout=30) == ["MK0417"]
        assert kernel.call("hostile.beyond", mine, timeout=30) == ["MK0417"] * 4
        assert kernel.call("hostile.given_back", mine, timeout=30) == ["MK0417"]
        with pytest.raises(PermissionDenied, match="MK0417"):
            kernel.call("hostile.pretend", wrong[-1], timeout=30)
        kernel.set_data("told", True)
        assert kernel.call("keeper.count") == 0
        eventually(lambda: kernel.info("hostile").refused >= len(wrong), "it is counted")
        assert kernel.call("keeper.kept_bytes") == [b"ssss"]
        assert mine == b"m" * MEBIBYTE


def test_plugin_cannot_map_blocks_of_others(plugins: Plugins) -> None:
    plugins.add("hostile", HOSTILE)
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    with plugins.kernel() as kernel:
        kernel.call("sender.give", "s", MEBIBYTE)
        assert kernel.call("hostile.map_all", timeout=30) == []
        kernel.call("hostile.release_all")
        assert in_use(kernel, "sender") >= 1
        assert kernel.call("keeper.kept_bytes") == [b"ssss"]


def test_invalid_allocation_sizes_are_refused(plugins: Plugins) -> None:
    plugins.add("hostile", HOSTILE)
    with plugins.kernel() as kernel:
        assert kernel.call("hostile.lend", timeout=30) == ["MK0625", "MK0625", "answered", "answered"]
        assert kernel.call("hostile.lend", timeout=30)[:2] == ["MK0625"] * 2


@pytest.mark.parametrize("how", ["no_number", "on_a_lane"])
def test_malformed_buffer_request_ends_the_worker(plugins: Plugins, how: str) -> None:
    plugins.add("hostile", HOSTILE, supervision={"backoff": 0.01})
    plugins.healthy()
    with plugins.kernel() as kernel:
        with pytest.raises(PluginDied):
            kernel.call(f"hostile.{how}", timeout=30)
        state_is(kernel, "hostile", "active")
        assert kernel.call("healthy.answer") == 42


def test_plugin_that_never_reads_its_replies_does_not_block_others(plugins: Plugins) -> None:
    plugins.add("hostile", HOSTILE)
    plugins.healthy()
    with plugins.kernel() as kernel:
        with suppress(KernelError):  # its own socket was full
            kernel.call("hostile.unread", timeout=30)
        assert kernel.call("healthy.answer") == 42


def test_concurrent_buffers_reach_their_receivers_intact(plugins: Plugins) -> None:
    """Threads of the embedder, both plugins, calls and events: no block is written to while somebody looks."""
    plugins.add("keeper", KEEPER, concurrency=2)
    plugins.add("sender", SENDER, concurrency=4)
    for level in ("process", "thread"):
        with plugins.kernel(level) as kernel:
            failures: list[BaseException] = []

            def work(number: int, kernel: Kernel = kernel, failures: list[BaseException] = failures) -> None:
                try:
                    if number % 2:
                        kernel.call("sender.call", 60, 100_000, timeout=60)
                        kernel.call("sender.emit", 60, 100_000, timeout=60)
                        return
                    for n in range(60):
                        value: Buffer = kernel.share(bytes([n]) * 100_000)
                        assert kernel.call("keeper.look", value, timeout=60) == 100_000 + 2 * n
                        assert value == bytes([n]) * 100_000
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(100)
            assert not failures
            eventually(lambda k=kernel: k.call("keeper.count") == 180, "all events came, each intact")


def test_kill_at_any_moment_leaves_no_block_behind(plugins: Plugins) -> None:
    """A sender and a receiver are killed again and again in the middle of it: what they had is free at the end."""
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    for level in ("process", "thread"):
        with plugins.kernel(level) as kernel:
            for turn in range(6):
                calling = threading.Thread(target=_ignoring, args=(kernel, "sender.insist", 100_000))
                calling.start()
                eventually(lambda k=kernel: in_use(k, "sender"), "it is at it")
                name = ("sender", "keeper")[turn % 2]
                before = [account(kernel, each) for each in ("sender", "keeper")]
                kernel.kill(name)
                if name == "keeper":
                    kernel.kill("sender")
                calling.join(60)
                kernel.start("keeper") if name == "keeper" else None
                kernel.start("sender")
                for each in before:
                    eventually(lambda h=each: not h.closed or not h._leases, "it holds nothing after its end")
                eventually(lambda h=before[0], k=kernel: _swept(k, h), "and its memory is given up")
            assert kernel.call("sender.call", 10, 100_000, timeout=60) == 10


def _swept(kernel: Kernel, ended: BufferAccount) -> bool:
    kernel.core.reactor.run(kernel.core.buffers.sweep)
    return not ended.blocks


def _ignoring(kernel: Kernel, target: str, *args: int) -> None:
    with suppress(KernelError):
        kernel.call(target, *args, timeout=60)


def test_closing_the_kernel_leaves_no_descriptor(plugins: Plugins) -> None:
    plugins.add("keeper", KEEPER)
    plugins.add("sender", SENDER)
    before = leftovers.descriptors()
    with plugins.kernel() as kernel:
        kernel.call("sender.give", "a", MEBIBYTE)
        mine = kernel.share(b"kept" * MEBIBYTE)
        back = kernel.call("keeper.keep", mine)
        assert back == 2
    assert mine == b"kept" * MEBIBYTE  # the memory is there as long as somebody looks
    del mine
    assert leftovers.opened_since(before) == {}
