"""Where a plugin's code runs: one at a time, interleaved, or on N threads."""

from __future__ import annotations

from microkernel.testing.harness import Workspace, plugin
from microkernel.testing.levels import requires_native


@requires_native
def check_sync_handlers_one_at_a_time_in_one_thread(workspace: Workspace) -> None:
    """``__init__``, ``start``, sync handlers, methods and timers run in one thread, so objects bound to a thread
    (sqlite3) work."""
    body = """
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        self.threads = {threading.get_ident()}
        self.inside = self.most = 0
        self.db = sqlite3.connect(":memory:")
        self.db.execute("create table t (n integer)")
    def start(self) -> None:
        self.note()
    def stop(self) -> None:
        self.db.close()
    def note(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.threads.add(threading.get_ident())
        time.sleep(0)
        self.inside -= 1
    @on("x")
    def event(self, n: int) -> None:
        self.note()
        self.db.execute("insert into t values (?)", (n,))
    @every(0.001)
    def beat(self) -> None:
        self.note()
    @expose
    def method(self) -> list:
        self.note()
        (total,) = self.db.execute("select sum(n) from t").fetchone()
        return [total, len(self.threads), self.most]
    """
    with workspace.run(p=plugin(body, head="import sqlite3")) as harness:
        under_way = [harness.in_background(lambda: [harness.call("p.method") for _ in range(20)]) for _ in range(3)]
        for n in range(100):
            harness.kernel.emit("x", n=n)
        for one in under_way:
            one.result()
        assert harness.call("p.method") == [sum(range(100)), 1, 1]


def check_async_handlers_interleave(workspace: Workspace) -> None:
    """While an async handler awaits, other handlers run in the same thread, sync ones in between."""
    body = """
    def start(self) -> None:
        self.event, self.main = asyncio.Event(), threading.get_ident()
    @on("first")
    async def first(self) -> None:
        await self.event.wait()
        self.api.emit("out.first", same=threading.get_ident() == self.main)
    @expose
    async def second(self) -> bool:
        self.event.set()
        return threading.get_ident() == self.main
    @expose
    def sync(self) -> bool:
        return threading.get_ident() == self.main
    @expose
    async def waits(self) -> str:
        await self.event.wait()
        return "waited"
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("first")
        waiting = [harness.in_background(harness.call, "p.waits") for _ in range(5)]
        assert harness.call("p.sync") is True
        assert harness.received("first") == []
        assert harness.call("p.second") is True
        assert harness.received("first", 1) == [{"same": True}]
        assert [one.result() for one in waiting] == ["waited"] * 5


def check_a_plugin_without_async_has_no_loop(workspace: Workspace) -> None:
    """A plugin without async code has no event loop, so ``asyncio.run`` works in a handler."""
    body = """
    @expose
    def run(self) -> list:
        try:
            asyncio.get_running_loop()
            running = True
        except RuntimeError:
            running = False
        return [running, asyncio.run(work(3)), asyncio.run(work(4))]
    """
    head = """
    async def work(n):
        await asyncio.sleep(0)
        return n * 2
    """
    with workspace.run(p=plugin(body, head=head)) as harness:
        assert harness.call("p.run") == [False, 6, 8]


@requires_native
def check_concurrency_gives_threads(workspace: Workspace) -> None:
    """With ``concurrency = 3``, three sync handlers meet at a barrier; calls, deadlines and errors work as usual."""
    body = """
    def start(self) -> None:
        self.barrier = threading.Barrier(3, timeout=25)
    @on("meet")
    def meet(self) -> None:
        self.barrier.wait()
        self.api.emit("out.met")
    @expose
    def meet_too(self) -> int:
        return self.barrier.wait() and 1
    @expose
    def fails(self) -> None:
        raise LookupError("here")
    @expose
    def nested(self) -> Any:
        return self.api.call("p.fails", timeout=20)
    """
    with workspace.run(p=plugin(body, manifest="concurrency = 3")) as harness:
        harness.kernel.emit("meet")
        harness.kernel.emit("meet")
        harness.call("p.meet_too")
        assert len(harness.received("met", 2)) == 2
        for _ in range(3):
            harness.kernel.emit("meet")
        assert len(harness.received("met", 5)) == 5
        try:
            harness.call("p.nested")
        except Exception as error:
            assert "LookupError" in str(error)  # noqa: PT017 - these checks do not need pytest


@requires_native
def check_async_calls_run_at_once(workspace: Workspace) -> None:
    """Two ``acall`` calls of one plugin run at the same time."""
    body = """
    @expose
    async def both(self) -> list:
        return await asyncio.gather(self.api.acall("q.meet", timeout=30), self.api.acall("q.meet", timeout=30))
    """
    other = """
    def start(self) -> None:
        self.barrier = threading.Barrier(2, timeout=25)
    @expose
    def meet(self) -> str:
        self.barrier.wait()
        return "met"
    """
    with workspace.run(p=plugin(body), q=plugin(other, manifest="concurrency = 2")) as harness:
        assert harness.call("p.both") == ["met", "met"]


@requires_native
def check_api_from_several_threads(workspace: Workspace) -> None:
    """``emit``, ``call`` and the shared data work from several threads of a plugin at once."""
    body = """
    @expose
    def run(self, threads: int, times: int) -> int:
        self.left = threading.Semaphore(0)
        for n in range(threads):
            self.api.spawn(self.work, n, times)
        for _ in range(threads):
            self.left.acquire()
        return self.api.get_data("done", 0)
    def work(self, n: int, times: int) -> None:
        for i in range(times):
            assert self.api.call("q.echo", [n, i], timeout=30) == [n, i]
            self.api.emit("out.at", n=n, i=i)
            assert self.api.set_data(f"key.{n}", i) == i + 1
            assert self.api.get_data(f"key.{n}") == i
        self.left.release()
    """
    echo = "@expose\ndef echo(self, value):\n    return value"
    with workspace.run(p=plugin(body), q=plugin(echo)) as harness:
        harness.call("p.run", 4, 50)
        events = harness.received("at", 200)
        for n in range(4):
            assert [event["i"] for event in events if event["n"] == n] == list(range(50))


@requires_native
def check_a_death_beside_busy_threads(workspace: Workspace) -> None:
    """Events that other threads of a dying plugin had started are delivered again; they are neither lost nor treated as
    failed."""
    body = """
    @on("work")
    def work(self, event, n: int) -> None:
        if n == 0 and self.api.generation == 1:
            self.hold("both")
            sys.exit(1)
        if n == 1 and self.api.generation == 1:
            self.api.set_data("both", True)
            while True:
                time.sleep(0.001)
                self.api.get_data("both")
        self.api.emit("out.worked", n=n, generation=self.api.generation)
    """
    manifest = "concurrency = 2\nsupervision = { backoff = 0.01 }"
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        for n in range(5):
            harness.kernel.emit("work", n=n)
        worked = harness.received("worked", 5)
        assert sorted(event["n"] for event in worked) == [0, 1, 2, 3, 4]
        assert {event["generation"] for event in worked} == {2}
        assert harness.kernel.dead_letters() == []
