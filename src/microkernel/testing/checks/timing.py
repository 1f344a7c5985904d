"""Timers, sleep and spawned work; and that all of it ends with the plugin."""

from __future__ import annotations

from microkernel.testing.harness import Workspace, plugin
from microkernel.testing.levels import requires_native


def check_every_beats_again_and_again(workspace: Workspace) -> None:
    """Timers run repeatedly, by decorator and by ``api.every``, sync and async; never before ``start`` has returned."""
    body = """
    @every(0.01)
    def sync(self) -> None:
        self.api.emit("out.sync", started=self.started)
    @every(0.01)
    async def lazy(self) -> None:
        self.api.emit("out.lazy", started=self.started)
    def start(self) -> None:
        self.api.every(0.01, self.more)
        self.started = True
    def more(self) -> None:
        self.api.emit("out.more", started=self.started)
    """
    with workspace.run(p=plugin(body)) as harness:
        for topic in ("sync", "lazy", "more"):
            assert all(event["started"] for event in harness.received(topic, 3))
        harness.kernel.stop("p")
        counts = [len(harness.received(topic)) for topic in ("sync", "lazy", "more")]
        harness.kernel.start("p")
        harness.received("sync", counts[0] + 3)


def check_every_skips_a_beat_that_still_runs(workspace: Workspace) -> None:
    """A timer never overlaps with itself, even if handlers interleave."""
    body = """
    running = most = beats = 0
    @every(0.005)
    async def beat(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.05)
        self.running -= 1
        self.beats += 1
        self.api.emit("out.beat", most=self.most)
    """
    with workspace.run(p=plugin(body)) as harness:
        assert {event["most"] for event in harness.received("beat", 4)} == {1}


def check_after_runs_once_and_can_be_cancelled(workspace: Workspace) -> None:
    """``api.after`` runs once; ``cancel`` before that prevents it, also from a handler."""
    body = """
    def start(self) -> None:
        self.api.after(0.01, self.fired)
        self.api.after(0.01, self.never).cancel()
        beat = self.api.every(0.01, self.never)
        self.api.off(beat)
    def never(self) -> None:
        self.api.emit("out.never")
    def fired(self) -> None:
        self.api.emit("out.fired")
        self.api.after(0.01, self.again)
    def again(self) -> None:
        self.api.after(0.05, lambda: self.api.emit("out.end"))
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.received("end", 1)
        assert len(harness.received("fired")) == 1
        assert harness.received("never") == []


def check_a_timer_that_raises_goes_on(workspace: Workspace) -> None:
    """An exception of a timer is logged, and the timer continues."""
    body = """
    beats = 0
    @every(0.01)
    def beat(self) -> None:
        self.beats += 1
        self.api.emit("out.beat")
        raise ValueError(f"beat {self.beats}")
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.received("beat", 3)
        assert any("ValueError: beat 1" in text for _, text in harness.log_lines("p"))
        assert harness.info("p").state == "active"


@requires_native
def check_sleep_ends_with_the_plugin(workspace: Workspace) -> None:
    """``sleep`` returns True after the whole time, False if the plugin is to stop: in handlers, pools and spawned
    work."""
    body = """
    @on("nap")
    def nap(self, event) -> None:
        self.api.emit("out.whole", whole=self.api.sleep(0.01))
        self.api.emit("out.asleep")
        self.api.emit("out.woken", whole=self.api.sleep(3600), active=self.api.is_active)
    @expose
    def spawn_nap(self) -> None:
        self.api.spawn(self.nap, None)
    """
    brief = "limits = { drain = 0.1 }"  # seconds that the stop waits for a handler that sleeps
    with workspace.run(
        one=plugin(body, manifest=brief), pool=plugin(body, manifest=f"concurrency = 3\n{brief}")
    ) as harness:
        harness.kernel.emit("nap")
        harness.received("asleep", 2)
        harness.call("pool.spawn_nap")
        harness.received("asleep", 3)
        for name in ("one", "pool"):
            assert harness.kernel.stop(name).state == "stopped"
        assert harness.received("whole", 3) == [{"whole": True}] * 3
        woken = harness.received("woken", 2)
        assert woken[:2] == [{"whole": False, "active": False}] * 2


@requires_native
def check_is_active_is_the_condition_for_loops(workspace: Workspace) -> None:
    """``is_active`` is True from ``start`` until a stop is requested: in spawned work, and in a handler that loops."""
    body = """
    def start(self) -> None:
        self.seen = [self.api.is_active]
    @expose
    def begin(self) -> None:
        self.api.spawn(self.loop)
    def loop(self) -> None:
        self.api.emit("out.looping")
        while self.api.is_active:
            time.sleep(0.001)
        self.api.set_data("spawned.end", True)
    @on("work")
    def work(self) -> None:
        self.api.emit("out.working")
        while self.api.is_active:
            pass
        self.api.emit("out.worked")
    @expose
    def was(self) -> list:
        return self.seen
    """
    with workspace.run(p=plugin(body, manifest="limits = { drain = 0.1 }")) as harness:
        assert harness.call("p.was") == [True]
        harness.call("p.begin")
        harness.received("looping", 1)
        harness.kernel.emit("work")
        harness.received("working", 1)
        assert harness.kernel.stop("p").state == "stopped"
        assert len(harness.received("worked", 1)) == 1


@requires_native
def check_spawned_work_runs_beside(workspace: Workspace) -> None:
    """Functions run in threads, coroutine functions as tasks; their exceptions are logged and end nothing else."""
    body = """
    def start(self) -> None:
        self.main = threading.get_ident()
    @expose
    def begin(self) -> None:
        self.api.spawn(self.sync, "s")
        self.api.spawn(self.lazy, "a")
        self.api.spawn(self.fails)
        self.hold("both")
    def sync(self, word: str) -> None:
        self.api.emit("out.ran", word=word, beside=threading.get_ident() != self.main)
        self.api.set_data("both", True)
    async def lazy(self, word: str) -> None:
        await asyncio.sleep(0)
        self.api.emit("out.ran", word=word, beside=None)
    def fails(self) -> None:
        raise ValueError("spawned trouble")
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.call("p.begin")
        ran = {event["word"]: event["beside"] for event in harness.received("ran", 2)}
        assert ran == {"s": True, "a": None}
        harness.until(lambda: any("spawned trouble" in text for _, text in harness.log_lines("p")), "its log")
        assert harness.info("p").state == "active"
