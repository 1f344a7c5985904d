"""Deadlines of calls: expiry, cancellation, and late answers."""

from __future__ import annotations

from microkernel.errors import (
    CallTimeout,
    PluginDied,
)
from microkernel.testing.harness import Workspace, expect_error, plugin

SLOW = plugin(
    """
    @expose
    def sync(self) -> None:
        self.api.emit("out.entered")
        while not self.api.cancelled:
            time.sleep(0.001)
        self.api.emit("out.cancelled", how="sync")
    @expose
    def sleeper(self) -> None:
        self.api.emit("out.entered")
        self.api.emit("out.cancelled", how="sleeper", whole=self.api.sleep(3600))
    @expose
    def quick(self) -> str:
        return "quick"
    """
)
SLOW_ASYNC = plugin(
    """
    @expose
    async def wait(self) -> None:
        self.api.emit("out.entered")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.api.emit("out.cancelled", how="async")
            raise
    """
)
IMPATIENT = plugin(
    """
    @expose
    def attempt(self, target: str, timeout: float) -> str:
        try:
            self.api.call(target, timeout=timeout)
        except errors.CallTimeout as error:
            return str(error)
    @expose
    async def aattempt(self, target: str, timeout: float) -> str:
        try:
            await self.api.acall(target, timeout=timeout)
        except errors.CallTimeout as error:
            return str(error)
    """
)


def check_deadline_of_a_call(workspace: Workspace) -> None:
    """After the deadline the caller gets CallTimeout, and the callee sees it: ``api.cancelled``, an interrupted
    ``sleep``, CancelledError."""
    with workspace.run(slow=SLOW, lazy=SLOW_ASYNC, p=IMPATIENT) as harness:
        targets = ("slow.sync", "slow.sleeper", "lazy.wait")
        for target in targets:
            assert target in expect_error(CallTimeout, harness.call, target, timeout=0.1).text
        hows = [event["how"] for event in harness.received("cancelled", 3)]
        assert sorted(hows) == ["async", "sleeper", "sync"]
        assert harness.received("cancelled")[hows.index("sleeper")]["whole"] is False
        for attempt in ("p.attempt", "p.aattempt"):
            for target in targets:
                assert target in harness.call(attempt, target, 0.1)
        assert len(harness.received("cancelled", 9)) == 9
        assert harness.call("slow.quick") == "quick"


def check_a_late_answer_reaches_nobody(workspace: Workspace) -> None:
    """A late answer is dropped: after a timeout, the next call gets its own answer."""
    body = """
    @expose
    def number(self, n: int, key: str = "") -> int:
        if key:
            self.hold(key)
        return n
    """
    relay = """
    @expose
    def late_then(self) -> list:
        try:
            self.api.call("p.number", 1, key="go", timeout=0.1)
        except errors.CallTimeout:
            self.api.set_data("go", True)
        return [self.api.call("p.number", n, timeout=30) for n in range(2, 20)]
    """
    with workspace.run(p=plugin(body), q=plugin(relay)) as harness:
        expect_error(CallTimeout, harness.call, "p.number", 1, "first", timeout=0.1)
        harness.release("first")
        assert [harness.call("p.number", n) for n in range(2, 20)] == list(range(2, 20))
        assert harness.call("q.late_then") == list(range(2, 20))


def check_a_callers_end_cancels_its_call(workspace: Workspace) -> None:
    """When the caller is killed, its call is cancelled at the callee."""
    with workspace.run(slow=SLOW, p=IMPATIENT) as harness:
        waiting = harness.in_background(harness.kernel.call, "p.attempt", "slow.sync", 25.0, timeout=25.0)
        harness.received("entered", 1)
        harness.kernel.kill("p")
        waiting.error(PluginDied)
        assert harness.received("cancelled", 1)[0] == {"how": "sync"}


def check_deadlines_travel_on(workspace: Workspace) -> None:
    """A nested call has at most what is left of the deadline around it, whatever timeout it requests."""
    middle = """
    @expose
    def relay(self) -> None:
        self.api.call("slow.sync", timeout=25)
    @expose
    async def arelay(self) -> None:
        await self.api.acall("slow.sync", timeout=25)
    """
    with workspace.run(slow=SLOW, middle=plugin(middle)) as harness:
        for count, method in enumerate(("relay", "arelay"), 1):
            # Long enough for the callee's call to start, on a busy machine too.
            expect_error(CallTimeout, harness.call, f"middle.{method}", timeout=0.6)
            assert len(harness.received("cancelled", count)) == count


def check_a_call_given_up_leaves_nothing_behind(workspace: Workspace) -> None:
    """After an abandoned call whose callee has ended too, nothing is counted as waiting, and no watchdog ends an idle
    plugin."""
    body = """
    @expose
    def slow(self, key: str) -> None:
        self.hold(key)
    @expose
    async def never(self) -> None:
        await asyncio.sleep(3600)
    """
    sync = body.replace("async def never", "def never").replace("await asyncio.sleep(3600)", "self.api.sleep(3600)")
    with workspace.run(p=plugin(sync), q=plugin(body), relay=IMPATIENT) as harness:
        for name in "pq":
            for n in range(3):
                expect_error(CallTimeout, harness.call, f"{name}.slow", f"{name}.{n}", timeout=0.05)
                expect_error(CallTimeout, harness.call, f"{name}.never", timeout=0.05)
                harness.release(f"{name}.{n}")
                harness.call("relay.attempt", f"{name}.never", 0.05)
            harness.until(lambda name=name: harness.info(name).waiting == 0, f"nothing left at {name}")  # type: ignore[misc]
            assert harness.info(name).restarts == 0


def check_a_call_past_its_deadline_is_not_begun(workspace: Workspace) -> None:
    """A call whose caller gave up while it was queued is not run."""
    body = """
    count = 0
    @expose
    def slow(self) -> None:
        self.api.emit("out.entered")
        self.hold("go")
    @expose
    def count_up(self) -> int:
        self.count += 1
        return self.count
    """
    with workspace.run(p=plugin(body)) as harness:
        slow = harness.in_background(harness.call, "p.slow")
        harness.received("entered", 1)
        for _ in range(3):
            expect_error(CallTimeout, harness.call, "p.count_up", timeout=0.02)
        harness.release("go")
        slow.result()
        assert harness.call("p.count_up") == 1
