"""Ten thousand exceptions at any bytecode of thread plugins that emit, call and write: the kernel never notices."""

from __future__ import annotations

import asyncio
import ctypes
import operator
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import starmap
from types import SimpleNamespace
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import PluginKilled
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import PendingTable
from microkernel.kernel.runtime.wakeup import Wakeup
from microkernel.sdk.request_context import RequestContext
from microkernel.sdk.runtime.executor import Job
from microkernel.sdk.runtime.housekeeping import Chores
from microkernel.sdk.runtime.main_loop import BlockingLoop
from microkernel.sdk.runtime.runtime import Runtime
from tests.security.attacks.support import ARENA, Arena, Injected, Plugins, eventually

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",  # an exception may come in a weak reference's callback
)
COUNT = 10_000
LOOPERS = 3
ALWAYS = {"intensity": 100_000, "backoff": 0.001, "backoff_max": 0.002}

LOOPER = """
from tests.security.attacks.support import ARENA
class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
        self.heard = 0
        self.fresh = 0
    def start(self): {start}
    def stop(self): pass
    def loop(self):
        ARENA[0].loop(self.api.name + {suffix!r}, self.work)
    def work(self):
        other = "echo" if self.api.name != "echo" else "looper0"
        self.api.emit("tick", n=1)
        assert self.api.call("echo.answer", number=1, timeout=30) == 2
        self.api.set_data(self.api.name + ".n", 1)
        assert self.api.get_data(self.api.name + ".n") == 1
        {more}
    @on("go")
    def go(self): {go}
    @on("tick")
    def tick(self): self.heard += 1
    @on("fresh")
    def freshly(self, turn: int): self.fresh = turn
    @expose
    def answer(self, number: int) -> int: return number + 1
    @expose
    def seen(self) -> int: return self.fresh
    @expose
    def through(self, others: list) -> int:
        return self.api.call(others[0] + ".through", others[1:], timeout=20) + 1 if others else 0
"""


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena()
    ARENA[:] = [made]
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield made
    made.going = False
    sys.setswitchinterval(before)


raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)


def inject(arena: Arena, kind: type[BaseException], count: int, seconds: float) -> int:
    """So many times, into threads by turns; returns how many were raised in time."""
    until, done, dice = time.monotonic() + seconds, 0, random.Random(7)
    while done < count and time.monotonic() < until:
        for name, ident in list(arena.targets.items()):
            before = arena.caught[name]
            if raise_in(ident, kind) and kind is Injected:
                limit = time.monotonic() + 1.0
                while arena.caught[name] == before and time.monotonic() < limit:
                    time.sleep(0)
            for _ in range(dice.randrange(300)):
                pass
            done += 1
    return done


def is_quiet(kernel: Kernel) -> None:
    """No letter waits or is in flight, no call is pending, nobody waits for anybody."""
    core = kernel.core
    for record in core.registry:
        eventually(lambda r=record: len(r.mailbox) == 0, f"{record.name}'s mailbox is empty: {record.mailbox.waiting}")
        eventually(lambda r=record: not r.incoming and not r.outgoing, f"{record.name} waits for nobody")
        assert not record.mailbox.blocked_sends
    eventually(lambda: not core.calls.pending, "no call is pending")
    for record in core.registry:
        assert record.instance is not None
        eventually(lambda r=record: not r.instance.runner.channel._answers, "nobody waits for an answer")


def works_as_before(kernel: Kernel, plugins: Plugins) -> None:
    names = [info.name for info in kernel.list()]
    for turn in range(1, 6):
        kernel.emit("fresh", turn=turn)
        for name in names:
            eventually(lambda n=name, t=turn: kernel.call(f"{n}.seen", timeout=20) == t, f"{name} handles it")
    for name in names:  # everybody through everybody else: an edge that is no more would be a deadlock
        others = [other for other in names if other != name]
        assert kernel.call(f"{name}.through", others, timeout=30) == len(others)
        assert kernel.call(f"{name}.through", others[::-1], timeout=30) == len(others)
    assert kernel.load(plugins.healthy("late")).state == "active"
    assert kernel.call("late.answer") == 42


@pytest.mark.parametrize("where", ["spawned", "handler", "pool"])
def test_injected_exceptions_that_plugin_code_catches_do_no_harm(plugins: Plugins, arena: Arena, where: str) -> None:
    ways = {
        "spawned": {"start": "self.api.spawn(self.loop)", "go": "pass", "more": "pass"},
        "handler": {"start": "pass", "go": "self.loop()", "more": "pass"},
        "pool": {"start": "pass", "go": "self.loop()", "more": "pass"},
    }
    tables = {"concurrency": 2} if where == "pool" else {}
    for number in range(LOOPERS):
        plugins.add(f"looper{number}", LOOPER.format(suffix="", **ways[where]), limits={"handler": 0}, **tables)
    quiet = {"start": "pass", "go": "pass", "more": "pass", "suffix": ""}
    plugins.add("echo", LOOPER.format(**quiet))
    with plugins.kernel("thread") as kernel:
        kernel.emit("go")
        eventually(lambda: len(arena.targets) == LOOPERS and all(arena.rounds.values()), "all loop")
        done = inject(arena, Injected, COUNT // 3, 25)
        before = dict(arena.rounds)
        eventually(lambda: all(arena.rounds[name] > before[name] for name in before), "all still loop")
        arena.going = False
        caught = sum(arena.caught.values())
        print(f"\n{where}: {done} injected, {caught} caught, {sum(arena.rounds.values())} rounds")
        assert arena.problems == []
        assert caught > 0.9 * done
        assert all(info.generation == 1 for info in kernel.list())
        is_quiet(kernel)
        works_as_before(kernel, plugins)
        is_quiet(kernel)


@pytest.mark.parametrize("where", [PendingTable.add, Mailbox.put], ids=["add", "put"])
def test_exception_at_the_start_of_a_call_leaves_no_pending_call(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, where: Callable[..., Any]
) -> None:
    """On the caller's thread, which catches it and lives on."""
    plugins.healthy()
    plugins.add("caller", """
        from tests.security.attacks.support import Injected
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def go(self):
                try: self.api.call("healthy.answer", number=1)
                except Injected: return "caught"
    """)  # fmt: skip
    left = [None]

    def raises(*args: Any, **options: Any) -> Any:
        if left and threading.current_thread().name.startswith("caller"):
            left.clear()
            raise Injected
        return where(*args, **options)

    with plugins.kernel("thread") as kernel:
        monkeypatch.setattr(PendingTable if where is PendingTable.add else Mailbox, where.__name__, raises)
        assert kernel.call("caller.go", timeout=20) == "caught"
        assert left == []
        is_quiet(kernel)
        assert kernel.call("healthy.answer", number=1, timeout=20) == 2


def test_kill_during_the_release_of_a_wakeup_leaves_no_descriptor() -> None:
    """The last to hold it may be a plugin's thread, and what Python code runs there can be killed."""
    bell = Wakeup()
    held, number = [bell.set], int(bell.fileno())
    bell.close()
    kill = (raise_in, ctypes.c_ulong(threading.get_ident()), ctypes.py_object(Injected))
    with suppress(Injected):
        deque(starmap(operator.call, [kill, (held.clear,)]), maxlen=0)  # C code all the way: nothing is raised between
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_task_released_after_the_end_of_its_instance_reports_nothing() -> None:
    """It waits for an answer; what tells that nobody waits any more finds the instance closed."""

    def closed(*_: object) -> None:
        raise PluginKilled

    async def waits() -> None:
        try:
            await Stuck()
        finally:
            closed()

    class Stuck:
        def __await__(self) -> Iterator[None]:
            yield

    instance = SimpleNamespace(dispatcher=SimpleNamespace(post=closed))
    loop = BlockingLoop(None, instance, Chores())  # type: ignore[arg-type]
    task = Job(RequestContext(1, 0.0, [], 0), waits, (), {}, closed, True).run_async(loop._end_instance)
    task.send(None)
    task.close()


def test_kill_during_the_close_of_an_event_loop_leaves_nothing() -> None:
    loop, runtime = asyncio.new_event_loop(), Runtime(channel=None)
    runtime._loop, parts = loop, [loop._ssock, loop._csock]
    loop._ssock.close()
    loop._ssock = None  # so far it had come
    runtime.release()
    assert loop.is_closed()
    assert [part.fileno() for part in parts] == [-1, -1]
    assert loop._selector._selector.closed
