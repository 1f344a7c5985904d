"""Crashes and kills: how plugins end, restart, and what happens to their events."""

from __future__ import annotations

from microkernel.errors import CallFailed, CallTimeout, PluginDied, PluginLoadError, PluginNotActive
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import only_at, requires_native

RUNAWAY = plugin(
    """
    @on("run")
    def run(self) -> None:
        self.api.emit("out.running")
        while True: pass
    @expose
    def run_too(self) -> None:
        self.api.emit("out.running")
        while True: pass
    @expose
    def ping(self) -> str:
        return "pong"
    """
)


def check_a_runaway_can_be_killed(workspace: Workspace) -> None:
    """``while True: pass`` in a handler or method can be killed: the plugin is stopped without a restart, and callers
    get an error."""
    with workspace.run(p=RUNAWAY) as harness:
        harness.kernel.emit("run")
        harness.received("running", 1)
        waiting = harness.in_background(harness.call, "p.ping", timeout=25.0)
        harness.until(lambda: harness.info("p").waiting >= 2, "a call that waits")
        info = harness.kernel.kill("p")
        assert (info.state, info.restarts, info.pid) == ("stopped", 0, None)
        assert waiting.error(PluginDied).name == "p"
        harness.kernel.start("p")
        waiting = harness.in_background(harness.call, "p.run_too", timeout=25.0)
        harness.received("running", 2)
        assert harness.kernel.kill("p").state == "stopped"
        assert waiting.error(PluginDied).name == "p"
        assert harness.kernel.start("p").generation == 3
        assert harness.call("p.ping") == "pong"


def check_others_go_on_beside_a_runaway(workspace: Workspace) -> None:
    """While one plugin spins, another answers, and the kernel lists both."""
    with workspace.run(p=RUNAWAY, q=RUNAWAY) as harness:
        harness.kernel.emit("nothing")
        spinning = harness.in_background(harness.call, "p.run_too", timeout=25.0)
        harness.received("running", 1)
        assert harness.call("q.ping") == "pong"
        assert {info.name: info.state for info in harness.kernel.list()} == {"p": "active", "q": "active"}
        harness.kernel.kill("p")
        spinning.error(PluginDied)
        assert harness.call("q.ping") == "pong"


def check_a_handler_past_its_deadline_is_ended(workspace: Workspace) -> None:
    """After ``limits.handler`` seconds the instance is ended as a crash, and the next generation continues."""
    manifest = """
    limits = { handler = 0.3, kill_grace = 0.2 }
    supervision = { backoff = 0.01 }
    """
    body = """
    @on("run")
    def run(self, event) -> None:
        if event.delivery == 1:
            while True: pass
        self.api.emit("out.again", delivery=event.delivery)
    """
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        harness.kernel.emit("run")
        assert harness.received("again", 1) == [{"delivery": 2}]
        assert harness.until_state("p", "active").restarts == 1


@requires_native
def check_a_handler_that_hangs_beside_others_is_ended(workspace: Workspace) -> None:
    """With ``concurrency``, a handler that hangs is ended even if others finish all the time."""
    manifest = """
    concurrency = 2
    limits = { handler = 0.3, kill_grace = 0.2 }
    supervision = { backoff = 0.01, intensity = 1000 }
    """
    body = """
    @on("run")
    def run(self, event) -> None:
        if event.delivery == 1:
            while True: pass
        self.api.emit("out.again", delivery=event.delivery)
    @on("tick")
    def tick(self) -> None: ...
    """

    def ticked() -> bool:
        harness.kernel.emit("tick")
        return bool(harness.received("again"))

    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        harness.kernel.emit("run")
        harness.until(ticked, "the hung handler is given up while others finish")
        assert harness.received("again", 1) == [{"delivery": 2}]


def check_calls_that_were_given_up_leave_nothing_at_a_stop(workspace: Workspace) -> None:
    """Calls that were given up while they waited for a plugin in backoff take no slots from later ones."""
    manifest = """
    limits = { mailbox = 2 }
    supervision = { backoff = 60 }
    """
    body = """
    @on("leave")
    def leave(self) -> None:
        raise SystemExit(1)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        harness.kernel.emit("leave")
        harness.until_state("p", "backoff")
        for _ in range(2):
            expect_error(CallTimeout, harness.call, "p.ping", timeout=0.01)
        harness.kernel.stop("p")
        harness.kernel.start("p")
        assert harness.call("p.ping") == "pong"


POISON = """
    @on("work")
    def work(self, event, n: int) -> None:
        if n == 3:
            tries = self.api.get_data("tries", [])
            self.api.set_data("tries", [*tries, event.delivery])
            %s
        self.api.emit("out.worked", n=n)
    @expose
    def ping(self) -> str:
        return "pong"
"""
QUICK = "supervision = { backoff = 0.01, intensity = 8 }"


def _poison(workspace: Workspace, death: str) -> None:
    with workspace.run(p=plugin(POISON % death, manifest=QUICK)) as harness:
        for n in range(7):
            harness.kernel.emit("work", n=n)
        (letter,) = harness.until_dead_letters(1, "p")
        others = {0, 1, 2, 4, 5, 6}  # an event handled just before a crash may be handled again
        harness.until(lambda: {event["n"] for event in harness.received("worked")} == others, "the others")
        assert (letter["data"], letter["delivery"]) == ({"n": 3}, 3)
        tries = harness.kernel.get_data("tries")
        assert tries == sorted(tries)
        assert tries[-3:] == [1, 2, 3]
        assert harness.call("p.ping") == "pong"
        info = harness.until_state("p", "active")
        assert info.restarts == len(tries)
        assert info.generation == len(tries) + 1
        assert len(harness.kernel.dead_letters()) == 1


def check_system_exit_is_a_death(workspace: Workspace) -> None:
    """A poison event is delivered at most ``max_deliveries`` times, becomes exactly one dead letter, and its neighbours
    are handled."""
    _poison(workspace, "sys.exit(1)")


@only_at("process", "sandbox", "wasm")
def check_os_exit_is_a_death(workspace: Workspace) -> None:
    """``os._exit`` is a crash, with the same effects."""
    _poison(workspace, "os._exit(1)")


@only_at("process", "sandbox")
def check_a_segmentation_fault_is_a_death(workspace: Workspace) -> None:
    """A segmentation fault is a crash, with the same effects."""
    _poison(workspace, "import ctypes; ctypes.string_at(0)")


@requires_native
def check_system_exit_elsewhere_is_a_death_too(workspace: Workspace) -> None:
    """SystemExit is a crash in an async handler, on a thread of ``concurrency``, in a timer, and in ``start``."""
    leave = "if self.api.generation == 1: sys.exit(2)"
    sources = {
        "lazy": plugin(f"@on('go')\nasync def go(self) -> None:\n    {leave}", manifest=QUICK),
        "wide": plugin(f"@on('go')\ndef go(self) -> None:\n    {leave}", manifest=f"concurrency = 2\n{QUICK}"),
        "timed": plugin(f"@every(0.01)\ndef go(self) -> None:\n    {leave}", manifest=QUICK),
        "early": plugin(f"def start(self) -> None:\n    {leave}", manifest=QUICK),
        "first": plugin(f"def __init__(self, api) -> None:\n    self.api = api\n    {leave}", manifest=QUICK),
    }
    with workspace.run(**sources) as harness:
        harness.kernel.emit("go")
        for name in sources:
            harness.until(lambda name=name: harness.info(name).generation == 2, f"{name}, generation 2")  # type: ignore[misc]
            info = harness.until_state(name, "active")
            assert (info.generation, info.restarts) == (2, 1), info


def check_subscriptions_and_waiting_events_outlive_a_death(workspace: Workspace) -> None:
    """Events and calls that arrive while a plugin is in backoff wait for its next generation."""
    body = """
    @expose
    def leave(self) -> None:
        sys.exit(1)
    @on("x")
    def hear(self, n: int) -> None:
        self.api.emit("out.heard", n=n, generation=self.api.generation)
    @expose
    def generation(self) -> int:
        return self.api.generation
    """
    with workspace.run(p=plugin(body, manifest="supervision = { backoff = 0.5 }")) as harness:
        expect_error(PluginDied, harness.call, "p.leave")
        harness.until_state("p", "backoff")
        for n in range(5):
            harness.kernel.emit("x", n=n)
        assert harness.call("p.generation") == 2
        assert harness.received("heard", 5) == [{"n": n, "generation": 2} for n in range(5)]


def check_what_is_no_exception_is_an_error_of_its_handler(workspace: Workspace) -> None:
    """An exception not derived from ``Exception`` (a gevent timeout, a panic of Rust code, ``CancelledError``) causes a
    dead letter or a CallFailed that names it, as any exception does; the plugin keeps running."""
    head = """
    class Panic(BaseException):
        pass
    """
    body = """
    @on("event")
    {kind} event(self, what: str) -> None:
        raise {{"panic": Panic, "cancelled": asyncio.CancelledError, "exit": GeneratorExit}}[what]("out of a handler")
    @expose
    {kind} method(self) -> None:
        raise Panic("out of a method")
    @expose
    def generation(self) -> int:
        return self.api.generation
    """
    sources = {
        "plain": plugin(body.format(kind="def"), head=head),
        "lazy": plugin(body.format(kind="async def"), head=head),
        "early": plugin("def start(self) -> None:\n    raise Panic('out of start')", head=head),
    }
    with workspace.run(**sources) as harness:
        assert "Panic: out of start" in (harness.info("early").error or "")
        for name in ("plain", "lazy"):
            failed = expect_error(CallFailed, harness.call, f"{name}.method")
            assert (failed.remote_type, failed.remote_message) == ("Panic", "out of a method")
            assert f"{name}.py" in failed.remote_traceback
        for what in ("panic", "cancelled", "exit"):
            harness.kernel.emit("event", what=what)
        for name in ("plain", "lazy"):
            reasons = [letter["reason"] for letter in harness.until_dead_letters(3, name)]
            for kind in ("Panic", "CancelledError", "GeneratorExit"):
                assert any(f"{kind}: out of a handler" in reason for reason in reasons), reasons
            assert harness.call(f"{name}.generation") == 1


def check_a_plugin_may_cancel_all_tasks(workspace: Workspace) -> None:
    """A plugin that cancels ``asyncio.all_tasks()`` and stops its loop keeps running."""
    body = """
    @on("cancel")
    async def cancel(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)
    @on("halt")
    async def halt(self) -> None:
        asyncio.get_running_loop().stop()
    @expose
    async def generation(self) -> int:
        await asyncio.sleep(0)
        return self.api.generation
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("cancel")
        assert "CancelledError" in harness.until_dead_letters(1)[0]["reason"]
        harness.kernel.emit("halt")
        assert harness.call("p.generation") == 1
        assert harness.kernel.stop("p").state == "stopped"


def check_who_dies_by_an_exception_is_told_by_its_name(workspace: Workspace) -> None:
    """``KeyboardInterrupt`` in a handler ends the plugin, and the message names the exception and its location."""
    body = """
    @on("go")
    {kind} go(self) -> None:
        raise KeyboardInterrupt("enough")
    """
    manifest = "supervision = { restart = 'temporary' }"
    sources = {kind.split()[0]: plugin(body.format(kind=kind), manifest=manifest) for kind in ("def", "async def")}
    with workspace.run(**{f"p_{name}": source for name, source in sources.items()}) as harness:
        harness.kernel.emit("go")
        for name in sources:
            error = harness.until_state(f"p_{name}", "stopped").error or ""
            assert "KeyboardInterrupt: enough" in error, error
            assert f"p_{name}.py" in error, error


def check_a_restart_that_fails_is_tried_again(workspace: Workspace) -> None:
    """A ``start`` that raises in a restart counts as a crash; one that raises in the first start makes the plugin
    ``failed``."""
    body = """
    def start(self) -> None:
        if self.api.generation in (2, 3):
            raise ConnectionError("not yet")
        if self.api.name == "q":
            raise ConnectionError("never")
    @on("work")
    def work(self, n: int) -> None:
        self.api.emit("out.worked", n=n, generation=self.api.generation)
    @expose
    def leave(self) -> None:
        sys.exit(1)
    """
    with workspace.run(p=plugin(body, manifest=QUICK), q=plugin(body, manifest=QUICK)) as harness:
        assert harness.info("q").state == "failed"
        assert harness.info("q").generation == 1
        expect_error(PluginDied, harness.call, "p.leave")
        harness.kernel.emit("work", n=1)
        assert harness.received("worked", 1) == [{"n": 1, "generation": 4}]
        info = harness.until_state("p", "active")
        assert (info.generation, info.restarts, info.error) == (4, 3, None)


def check_restarts_that_fail_spend_the_budget(workspace: Workspace) -> None:
    """After too many failed restarts the plugin is quarantined, and the message says why it did not start."""
    body = """
    def start(self) -> None:
        if self.api.generation > 1:
            raise ConnectionError("never again")
    @expose
    def leave(self) -> None:
        sys.exit(1)
    """
    with workspace.run(p=plugin(body, manifest="supervision = { backoff = 0.01, intensity = 2 }")) as harness:
        expect_error(PluginDied, harness.call, "p.leave")
        info = harness.until_state("p", "quarantined")
        assert (info.generation, info.restarts, info.error_id) == (3, 2, "MK0205")
        assert "ConnectionError: never again" in (info.error or "")


LEAVER = """
    @expose
    def leave(self, code: int | None = None) -> None:
        sys.exit(code)
    @expose
    def ping(self) -> str:
        return "pong"
"""


def check_restart_policies(workspace: Workspace) -> None:
    """``permanent`` always restarts, ``transient`` after an abnormal exit, ``temporary`` never."""
    manifest = "supervision = {{ restart = {!r}, backoff = 0.01 }}"
    kinds = ("permanent", "transient", "temporary")
    sources = {kind: plugin(LEAVER, manifest=manifest.format(kind)) for kind in kinds}
    with workspace.run(**sources) as harness:
        for kind in kinds:
            expect_error(PluginDied, harness.call, f"{kind}.leave", 1)
        assert harness.call("permanent.ping") == "pong"
        assert harness.call("transient.ping") == "pong"
        assert harness.until_state("temporary", "stopped").restarts == 0
        expect_error(PluginDied, harness.call, "permanent.leave", 0)
        expect_error(PluginDied, harness.call, "transient.leave", 0)
        assert harness.call("permanent.ping") == "pong"
        assert harness.until_state("transient", "stopped").restarts == 1
        expect_error(PluginNotActive, harness.call, "transient.ping")


def check_a_spent_budget_is_quarantine(workspace: Workspace) -> None:
    """After more than ``intensity`` crashes in ``period`` there are no more restarts until a start with ``reset``."""
    manifest = "supervision = { intensity = 2, backoff = 0.01 }"
    body = f"""
    def start(self) -> None:
        if not self.api.get_data("mended"):
            sys.exit(1)
    {LEAVER}
    """
    with workspace.run(p=plugin(body, manifest=manifest)) as harness:
        info = harness.until_state("p", "quarantined")
        assert (info.generation, info.restarts, info.error_id) == (3, 2, "MK0205")
        assert expect_error(PluginNotActive, harness.call, "p.ping").state == "quarantined"
        expect_error(PluginNotActive, harness.kernel.start, "p")
        harness.kernel.set_data("mended", True)
        assert harness.kernel.start("p", reset=True).state == "active"
        assert harness.call("p.ping") == "pong"


def check_stop_and_kill_in_backoff(workspace: Workspace) -> None:
    """A plugin that waits for a restart can be stopped, and does not restart."""
    manifest = "supervision = { backoff = 60.0, backoff_max = 60.0 }"
    with workspace.run(p=plugin(LEAVER, manifest=manifest), q=plugin(LEAVER, manifest=manifest)) as harness:
        for name in "pq":
            expect_error(PluginDied, harness.call, f"{name}.leave")
            harness.until_state(name, "backoff")
        assert harness.kernel.stop("p").state == "stopped"
        assert harness.kernel.kill("q").state == "stopped"
        assert harness.kernel.start("p").state == "active"


@only_at("process")
def check_what_a_plugin_started_ends_with_it(workspace: Workspace) -> None:
    """A child, and a grandchild that has detached itself, are gone when the kill is done. (A confined plugin starts
    none.)"""
    body = """
    @expose
    def begin(self) -> list:
        import subprocess
        daemon = "import os, time; os.setsid(); os.fork() or time.sleep(3600); time.sleep(3600)"
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        other = subprocess.Popen([sys.executable, "-c", daemon])
        return [os.getpid(), child.pid, other.pid]
    """
    import os

    with workspace.run(p=plugin(body)) as harness:
        pids = harness.call("p.begin")
        assert all(_is_alive(pid) for pid in pids)
        assert os.getpid() not in pids
        harness.kernel.kill("p")
        assert [pid for pid in pids if _is_alive(pid)] == []


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check_a_suspect_that_raises_holds_nobody_up(workspace: Workspace) -> None:
    """Deliveries that were in flight at a crash are redelivered one at a time; a handler that raises then does not
    block the rest."""
    body = """
    @on("work")
    def work(self, event, n: int) -> None:
        if n == 0:
            self.hold("go")
        if n == 1 and self.api.generation == 1:
            sys.exit(1)
        if n in (1, 2):
            raise ValueError("still faulty")
        self.api.emit("out.worked", n=n)
    """
    with workspace.run(p=plugin(body, manifest=QUICK)) as harness:
        for n in range(6):
            harness.kernel.emit("work", n=n)
        harness.release("go")
        harness.until(lambda: {event["n"] for event in harness.received("worked")} >= {0, 3, 4, 5}, "the others")
        assert [letter["data"]["n"] for letter in harness.until_dead_letters(2)] == [1, 2]


def check_a_busy_plugin_is_not_taken_for_a_silent_one(workspace: Workspace) -> None:
    """The handler deadline applies to handlers without progress: calls that always overlap are not treated as
    silence."""
    body = """
    @expose
    async def brief(self) -> None:
        await asyncio.sleep(0.03)
    """
    relay = """
    @expose
    async def fire(self, times: int) -> None:
        for _ in range(times):
            await self.api.acall("p.brief", timeout=20)
    """
    with workspace.run(p=plugin(body, manifest="limits = { handler = 0.3 }"), relay=plugin(relay)) as harness:

        def fire() -> None:
            for _ in range(40):
                harness.call("p.brief")

        under_way = [harness.in_background(fire) for _ in range(3)]
        under_way += [harness.in_background(harness.call, "relay.fire", 40) for _ in range(2)]
        for one in under_way:
            one.result()
        assert harness.info("p").restarts == 0


def check_who_waits_for_an_answer_can_be_killed(workspace: Workspace) -> None:
    """A plugin that waits in ``call``, ``ask``, ``acall`` or ``sleep`` can be killed."""
    body = """
    @expose
    def busy(self) -> None:
        self.hold("never")
    @on("question")
    def answer(self) -> None:
        self.hold("never")
    """
    waiter = """
    @on("call")
    def call(self) -> None:
        self.api.emit("out.waiting")
        self.api.call("busy.busy", timeout=3600)
    @on("ask")
    def ask(self) -> None:
        self.api.emit("out.waiting")
        self.api.ask("question", timeout=3600)
    @on("sleep")
    def sleep(self) -> None:
        self.api.emit("out.waiting")
        self.api.sleep(3600)
    """
    lazy = """
    @on("acall")
    async def acall(self) -> None:
        self.api.emit("out.waiting")
        await self.api.acall("busy.busy", timeout=3600)
    """
    with workspace.run(busy=plugin(body), waiter=plugin(waiter), lazy=plugin(lazy)) as harness:
        for count, (name, topic) in enumerate(
            (("waiter", "call"), ("waiter", "ask"), ("waiter", "sleep"), ("lazy", "acall")), 1
        ):
            harness.kernel.emit(topic)
            harness.received("waiting", count)
            assert harness.kernel.kill(name).state == "stopped", topic
            harness.kernel.start(name)
        harness.kernel.kill("busy")


def check_a_start_that_ends_its_plugin_is_refused(workspace: Workspace) -> None:
    """``load`` and ``start`` raise if the plugin ends its own instance, whatever the supervisor does then."""
    body = """
    def __init__(self, api: PluginAPI) -> None:
        sys.exit(3)
    """
    manifest = 'supervision = { restart = "temporary" }'
    sources = {
        "__init__": plugin(body, manifest=manifest),
        "start": plugin(body.replace("__init__(self, api: PluginAPI)", "start(self)"), manifest=manifest),
        "import": plugin("", head="raise SystemExit(3)", manifest=manifest),
        "start, with success": plugin("def start(self) -> None: sys.exit()", manifest=manifest),
        "start, again": plugin("def start(self) -> None: sys.exit(3)", manifest="supervision = { backoff = 60 }"),
    }
    with workspace.run(p=plugin("")) as harness:
        for what, source in sources.items():
            harness.kernel.stop("p")
            workspace.write("p", source)
            assert "exit" in expect_error(PluginLoadError, harness.kernel.start, "p").text, what
            harness.until_state("p", "backoff" if what == "start, again" else "stopped")
        harness.kernel.stop("p")
        expect_error(PluginLoadError, harness.kernel.reload, "p")
        path = workspace.write("late", sources["start"])
        expect_error(PluginLoadError, harness.kernel.load, path)
        workspace.write("late", plugin(""))
        assert harness.kernel.start("late").state == "active"
