"""What a plugin can have the kernel keep is bounded in bytes, whichever way it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import CallFailed, MailboxFull, PayloadTooLarge, PluginLoadError
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.routing.call_table import ABANDONED
from microkernel.wire import messages
from microkernel.wire.codec import Raw, encode
from tests.security.attacks.support import LOCKS, Plugins, eventually

KiB, MiB = 1 << 10, 1 << 20

BUSY = """
from tests.security.attacks.support import LOCKS
class Plugin(IPlugin):
    def __init__(self, api): api.on("big", self.handle, overflow={overflow!r})
    def start(self): pass
    def stop(self): pass
    def handle(self, event): LOCKS["busy"].acquire(); LOCKS["busy"].release()
    @expose
    def take(self, data: bytes) -> int:
        self.handle(None)
        return len(data)
"""
DOER = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    def nothing(self, **_): pass
    @expose
    def put(self, key: str, size: int) -> int: return self.api.set_data(f"doer.{key}", bytes(size))
    @expose
    def delete(self, key: str) -> None: self.api.delete_data(f"doer.{key}")
    @expose
    def listen(self, count: int, once: bool, same: bool) -> None:
        for number in range(count):
            self.api.on("t.same" if same else f"t.n{number}", self.nothing, once=once)
            if same: self.api.emit("t.same")
    @expose
    def on_and_off(self, count: int) -> None:
        for number in range(count): self.api.off(self.api.on(f"t.n{number}", self.nothing))
    @expose
    def offer(self, count: int) -> None:
        for number in range(count): self.api.expose(self.nothing, f"m{number}")
    @on("fail")
    def fail(self, event): raise ValueError("as it should")
"""


@pytest.fixture
def busy() -> Iterator[threading.Lock]:
    """As long as it is locked, the plugin ``busy`` does not finish what it has begun."""
    lock = LOCKS["busy"] = threading.Lock()
    lock.acquire()
    yield lock
    if lock.locked():
        lock.release()


def make_busy(plugins: Plugins, lock: threading.Lock, overflow: str, **limits: float) -> Kernel:
    plugins.add("busy", BUSY.format(overflow=overflow))
    kernel = plugins.kernel("thread", config=KernelConfig(limits={"handler": 0, **limits}))
    close = kernel.close

    def release_and_close() -> None:
        if lock.locked():
            lock.release()
        close()

    kernel.close = release_and_close  # type: ignore[method-assign]
    return kernel


def of_doer(plugins: Plugins, level: str = "process", **limits: object) -> Kernel:
    plugins.add("doer", DOER, limits=limits)
    return plugins.kernel(level)


def id_of(call: Callable[[], Any]) -> str:
    with pytest.raises((PayloadTooLarge, CallFailed)) as caught:
        call()
    return str(caught.value.fields.get("remote_message") or caught.value)


# The board


def test_shared_data_of_an_owner_is_limited_in_bytes(plugins: Plugins) -> None:
    with of_doer(plugins, kernel_memory=MiB) as kernel:
        for number in range(3):
            kernel.call("doer.put", f"k{number}", 300 * KiB)
        text = id_of(lambda: kernel.call("doer.put", "k3", 300 * KiB))
        assert "of shared data" in text
        assert kernel.get_data("doer.k3") is None
        kernel.set_data("other", bytes(2 * MiB))  # the embedder's own
        kernel.call("doer.put", "k0", 10)  # in place of what was there
        kernel.call("doer.put", "k3", 300 * KiB)
        kernel.call("doer.delete", "k3")
        kernel.call("doer.put", "k4", 290 * KiB)
        kernel.unload("doer")
        assert kernel.core.data.used("doer") == 0


def test_refused_value_keeps_the_previous_one(plugins: Plugins) -> None:
    with of_doer(plugins, kernel_memory=MiB) as kernel:
        assert kernel.call("doer.put", "k", 1) == 1
        id_of(lambda: kernel.call("doer.put", "k", 2 * MiB))
        with pytest.raises(PayloadTooLarge):
            kernel.set_data("doer.k", bytes(2 * MiB))  # whoever writes
        assert kernel.get_data("doer.k") == b"\0"
        assert kernel.call("doer.put", "k", 2) == 2


def test_keys_without_a_value_count_too(plugins: Plugins) -> None:
    with of_doer(plugins, "thread", kernel_memory=64 * KiB) as kernel:
        with suppress(PayloadTooLarge, CallFailed):
            for number in range(1000):
                kernel.call("doer.put", f"k{number}", 0)
        assert 50 < len(kernel.core.data.names()) <= 128


# Mailboxes


def test_few_large_events_fill_a_mailbox(plugins: Plugins, busy: threading.Lock) -> None:
    with make_busy(plugins, busy, "drop_newest", mailbox=20) as kernel:
        for _ in range(5):
            kernel.emit("big", data=bytes(100 * KiB))
        info = kernel.info("busy")
        assert (info.waiting, info.dropped) == (2, 3)
        busy.release()
        eventually(lambda: kernel.info("busy").events == 2, "both are handled")
        kernel.emit("big", data=bytes(100 * KiB))
        eventually(lambda: kernel.info("busy").events == 3, "there is room again")


def test_drop_oldest_drops_enough_for_a_large_event(plugins: Plugins, busy: threading.Lock) -> None:
    with make_busy(plugins, busy, "drop_oldest", mailbox=20) as kernel:
        kernel.emit("big", number=0)
        eventually(lambda: kernel.core.registry.get("busy").mailbox.in_flight == 1, "it is at it")
        for size in (60, 60, 60, 200, 200):
            kernel.emit("big", data=bytes(size * KiB))
        mailbox = kernel.core.registry.get("busy").mailbox
        assert mailbox.slots <= 20 + 26
        assert kernel.info("busy").dropped == 4
        assert kernel.info("busy").waiting == 2


def test_large_event_that_does_not_fit_is_a_dead_letter_under_reject(plugins: Plugins, busy: threading.Lock) -> None:
    with make_busy(plugins, busy, "reject", mailbox=10) as kernel:
        for _ in range(3):
            kernel.emit("big", data=bytes(100 * KiB))
        eventually(lambda: len(kernel.dead_letters()) == 2, "two dead letters")
        assert "full" in kernel.dead_letters()[0]["reason"]


def test_data_notifications_do_not_wait_for_mailbox_space(plugins: Plugins, busy: threading.Lock) -> None:
    watching = BUSY.format(overflow="block").replace("api.on(", "api.watch_data('k.**', self.handle); api.on(")
    plugins.add("busy", watching)
    config = KernelConfig(limits={"handler": 0, "mailbox": 5})
    with plugins.kernel("thread", config=config) as kernel:
        for number in range(20):
            kernel.set_data(f"k.n{number}", number)
        eventually(lambda: len(kernel.dead_letters()) == 15, "those without room are dead letters")
        assert kernel.info("busy").waiting == 5
        busy.release()


def test_sends_beyond_the_credit_are_dead_letters(plugins: Plugins, busy: threading.Lock) -> None:
    plugins.healthy("rude")
    with make_busy(plugins, busy, "block", mailbox=1, full_mailbox_timeout=1000) as kernel:
        rude = kernel.core.registry.get("rude").instance
        assert rude is not None
        rude.on_own_thread = False  # its messages come on the reactor's thread, as a worker's do
        rude.runner.send = lambda message: None  # type: ignore[method-assign]
        kernel.emit("big", number=0)
        data = Raw(encode({"data": bytes(MiB)}))
        for _ in range(100):
            kernel.core.reactor.run(lambda: rude.received(messages.Emit("big", data)))
        mailbox = kernel.core.registry.get("busy").mailbox
        assert 60 <= len(mailbox.blocked_sends) <= 64
        eventually(lambda: kernel.info("busy").dead == 100 - len(mailbox.blocked_sends), "the others are dead letters")
        rude.on_own_thread = True
        del rude.runner.send  # so that the stop reaches it: the kernel would wait for it


# Calls


def test_calls_of_large_arguments_wait_for_a_callee_up_to_a_bound(plugins: Plugins, busy: threading.Lock) -> None:
    with make_busy(plugins, busy, "block", mailbox=20) as kernel:
        answers: list[object] = []

        def call() -> None:
            answers.append(kernel.call("busy.take", bytes(100 * KiB), timeout=60))

        threads = [threading.Thread(target=call)]
        threads[0].start()
        eventually(lambda: len(kernel.core.registry.get("busy").incoming) == 1, "one call is pending")
        with pytest.raises(MailboxFull):
            kernel.call("busy.take", bytes(100 * KiB), timeout=60)
        kernel.emit("big", number=1)  # calls do not take the room of events
        assert kernel.info("busy").dead == 0
        busy.release()
        threads[0].join()
        assert answers == [100 * KiB]
        assert kernel.call("busy.take", bytes(100 * KiB), timeout=60) == 100 * KiB


# Dead letters and log


def test_newest_dead_letters_are_kept_and_all_are_counted(plugins: Plugins) -> None:
    with of_doer(plugins, kernel_memory=MiB) as kernel:
        for number in range(6):
            kernel.emit("fail", number=number, data=bytes(300 * KiB))
        eventually(lambda: kernel.info("doer").dead == 6, "all have failed")
        assert [letter["data"]["number"] for letter in kernel.dead_letters()] == [3, 4, 5]
        kernel.call("kernel.drop", kernel.dead_letters()[0]["id"])
        assert len(kernel.dead_letters()) == 2


def log_of(kernel: Kernel, *said: messages.Log) -> list[Any]:
    record = kernel.core.registry.get("doer")
    assert record.instance is not None
    for each in said:
        record.instance.received(each)
    kernel.core.reactor.run(bool)
    return [*record.logs]


def test_long_log_lines_are_truncated(plugins: Plugins) -> None:
    with of_doer(plugins, "thread") as kernel:
        long, stretched, strange = log_of(
            kernel,
            messages.Log(20, "x" * MiB, 0.0),
            messages.Log(20, "{a}" * 5000, 0.0, "notice", {"a": "y" * MiB}),
            messages.Log(20, "z", 0.0, "s" * MiB),
        )[-3:]
        assert [len(line.text) for line in (long, stretched, strange)] == [16_002, 16_002, 1]
        assert [line.stream for line in (long, stretched, strange)] == ["log", "notice", "log"]


def test_log_is_limited_in_bytes(plugins: Plugins) -> None:
    with of_doer(plugins, "thread", kernel_memory=100 * KiB) as kernel:
        lines = log_of(kernel, *(messages.Log(20, f"{number} " + "x" * 10_000, 0.0) for number in range(50)))
        assert [line.text.partition(" ")[0] for line in lines] == [str(number) for number in range(41, 50)]


# Registrations


@pytest.mark.parametrize("way", ["listen", "offer"])
def test_registrations_are_limited_in_bytes(plugins: Plugins, way: str) -> None:
    with of_doer(plugins, kernel_memory=256 * KiB) as kernel:
        arguments = (1000, False, False) if way == "listen" else (1000,)
        assert "registered" in id_of(lambda: kernel.call(f"doer.{way}", *arguments, timeout=30))
        info = kernel.info("doer")
        assert 20 < len(info.topics) + len(info.methods) < 600
        assert kernel.call("doer.put", "k", 1) == 1


def test_removed_and_replaced_registrations_are_not_charged_twice(plugins: Plugins) -> None:
    with of_doer(plugins, kernel_memory=64 * KiB) as kernel:
        kernel.call("doer.on_and_off", 200, timeout=30)
        assert len(kernel.info("doer").topics) == 1


def test_too_many_registrations_in_init_are_a_plugin_that_does_not_load(plugins: Plugins) -> None:
    body = DOER.replace("self.api = api\n", "self.api = api; [api.on(f't.n{n}', self.nothing) for n in range(1000)]\n")
    path = plugins.add("doer", body, limits={"kernel_memory": 256 * KiB})
    with plugins.kernel("process") as kernel:
        assert kernel.info("doer").state == "failed"
        assert kernel.info("doer").error_id == "MK0621"
        with pytest.raises((PayloadTooLarge, PluginLoadError)):
            kernel.start(path.stem)


# News


def test_unexpected_lifecycle_messages_are_not_kept(plugins: Plugins) -> None:
    with of_doer(plugins, "thread") as kernel:
        instance = kernel.core.registry.get("doer").instance
        assert instance is not None
        for _ in range(100):
            instance.received(messages.Stopped())
        kernel.core.reactor.run(bool)
        assert instance.events.qsize() <= 8
        while not instance.events.empty():
            instance.events.get()


def test_completed_asks_leave_no_timers(plugins: Plugins, busy: threading.Lock) -> None:
    with make_busy(plugins, busy, "drop_newest", mailbox=1) as kernel:
        core = kernel.core
        ask = messages.Ask(1, "big", Raw(encode({})), time.monotonic() + 1e6)
        for _ in range(3000):
            core.reactor.run(lambda: core.router.ask(None, "doer", ask, list))
            for id in list(core.calls.pending):
                core.calls.complete(id, ABANDONED)
        assert core.reactor.run(lambda: len(core.reactor._timers)) < 1100
