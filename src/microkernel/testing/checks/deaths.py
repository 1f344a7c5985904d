"""Deaths: what is killed, what ends itself, what comes back and what becomes of its events."""

from __future__ import annotations

from microkernel.errors import CallFailed, CallTimeout, PluginDied, PluginLoadError, PluginNotActive
from microkernel.testing.levels import natively, only_at
from microkernel.testing.stage import Workspace, plugin, refused

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


def check_a_runaway_can_be_killed(stage: Workspace) -> None:
    """``while True: pass`` in a handler or method; ``kill`` ends in stopped, without a restart; callers are told."""
    with stage.run(p=RUNAWAY) as scene:
        scene.kernel.emit("run")
        scene.heard("running", 1)
        waiting = scene.beside(scene.call, "p.ping", timeout=25.0)
        scene.until(lambda: scene.info("p").waiting >= 2, "a call that waits")
        info = scene.kernel.kill("p")
        assert (info.state, info.restarts, info.pid) == ("stopped", 0, None)
        assert waiting.error(PluginDied).name == "p"
        scene.kernel.start("p")
        waiting = scene.beside(scene.call, "p.run_too", timeout=25.0)
        scene.heard("running", 2)
        assert scene.kernel.kill("p").state == "stopped"
        assert waiting.error(PluginDied).name == "p"
        assert scene.kernel.start("p").generation == 3
        assert scene.call("p.ping") == "pong"


def check_others_go_on_beside_a_runaway(stage: Workspace) -> None:
    """While one plugin spins, another answers, and the kernel lists both."""
    with stage.run(p=RUNAWAY, q=RUNAWAY) as scene:
        scene.kernel.emit("nothing")
        spinning = scene.beside(scene.call, "p.run_too", timeout=25.0)
        scene.heard("running", 1)
        assert scene.call("q.ping") == "pong"
        assert {info.name: info.state for info in scene.kernel.list()} == {"p": "active", "q": "active"}
        scene.kernel.kill("p")
        spinning.error(PluginDied)
        assert scene.call("q.ping") == "pong"


def check_a_handler_past_its_deadline_is_ended(stage: Workspace) -> None:
    """``limits.handler``: the instance is ended, that is a death, and the next generation goes on."""
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
    with stage.run(p=plugin(body, manifest=manifest)) as scene:
        scene.kernel.emit("run")
        assert scene.heard("again", 1) == [{"delivery": 2}]
        assert scene.until_state("p", "active").restarts == 1


@natively
def check_a_handler_that_hangs_beside_others_is_ended(stage: Workspace) -> None:
    """With ``concurrency``, others may finish all the time: that does not excuse it."""
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
        scene.kernel.emit("tick")
        return bool(scene.heard("again"))

    with stage.run(p=plugin(body, manifest=manifest)) as scene:
        scene.kernel.emit("run")
        scene.until(ticked, "the hung handler is given up while others finish")
        assert scene.heard("again", 1) == [{"delivery": 2}]


def check_calls_that_were_given_up_leave_nothing_at_a_stop(stage: Workspace) -> None:
    """Given up while they waited for a plugin in backoff: they take no room from later ones."""
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
    with stage.run(p=plugin(body, manifest=manifest)) as scene:
        scene.kernel.emit("leave")
        scene.until_state("p", "backoff")
        for _ in range(2):
            refused(CallTimeout, scene.call, "p.ping", timeout=0.01)
        scene.kernel.stop("p")
        scene.kernel.start("p")
        assert scene.call("p.ping") == "pong"


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


def _poison(stage: Workspace, death: str) -> None:
    with stage.run(p=plugin(POISON % death, manifest=QUICK)) as scene:
        for n in range(7):
            scene.kernel.emit("work", n=n)
        (letter,) = scene.until_letters(1, "p")
        others = {0, 1, 2, 4, 5, 6}  # what was handled in the moment before a death may be handled again
        scene.until(lambda: {event["n"] for event in scene.heard("worked")} == others, "the others")
        assert (letter["data"], letter["delivery"]) == ({"n": 3}, 3)
        tries = scene.kernel.get_data("tries")
        assert tries == sorted(tries)
        assert tries[-3:] == [1, 2, 3]
        assert scene.call("p.ping") == "pong"
        info = scene.until_state("p", "active")
        assert info.restarts == len(tries)
        assert info.generation == len(tries) + 1
        assert len(scene.kernel.dead_letters()) == 1


def check_system_exit_is_a_death(stage: Workspace) -> None:
    """A poison event is delivered at most ``max_deliveries`` times, ends as exactly one dead letter, and its neighbours
    are handled."""
    _poison(stage, "sys.exit(1)")


@only_at("process", "sandbox", "wasm")
def check_os_exit_is_a_death(stage: Workspace) -> None:
    """The same for ``os._exit``."""
    _poison(stage, "os._exit(1)")


@only_at("process", "sandbox")
def check_a_segmentation_fault_is_a_death(stage: Workspace) -> None:
    """The same for a real crash."""
    _poison(stage, "import ctypes; ctypes.string_at(0)")


@natively
def check_system_exit_elsewhere_is_a_death_too(stage: Workspace) -> None:
    """In an async handler, on a thread of ``concurrency``, in a timer, in ``start``."""
    leave = "if self.api.generation == 1: sys.exit(2)"
    sources = {
        "lazy": plugin(f"@on('go')\nasync def go(self) -> None:\n    {leave}", manifest=QUICK),
        "wide": plugin(f"@on('go')\ndef go(self) -> None:\n    {leave}", manifest=f"concurrency = 2\n{QUICK}"),
        "timed": plugin(f"@every(0.01)\ndef go(self) -> None:\n    {leave}", manifest=QUICK),
        "early": plugin(f"def start(self) -> None:\n    {leave}", manifest=QUICK),
        "first": plugin(f"def __init__(self, api) -> None:\n    self.api = api\n    {leave}", manifest=QUICK),
    }
    with stage.run(**sources) as scene:
        scene.kernel.emit("go")
        for name in sources:
            scene.until(lambda name=name: scene.info(name).generation == 2, f"{name}, generation 2")  # type: ignore[misc]
            info = scene.until_state(name, "active")
            assert (info.generation, info.restarts) == (2, 1), info


def check_subscriptions_and_waiting_events_outlive_a_death(stage: Workspace) -> None:
    """Events and calls that come while a plugin is in backoff wait for its next generation."""
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
    with stage.run(p=plugin(body, manifest="supervision = { backoff = 0.5 }")) as scene:
        refused(PluginDied, scene.call, "p.leave")
        scene.until_state("p", "backoff")
        for n in range(5):
            scene.kernel.emit("x", n=n)
        assert scene.call("p.generation") == 2
        assert scene.heard("heard", 5) == [{"n": n, "generation": 2} for n in range(5)]


def check_what_is_no_exception_is_an_error_of_its_handler(stage: Workspace) -> None:
    """What does not derive from ``Exception`` (a time-out of gevent, a panic of Rust code, ``CancelledError``) makes a
    dead letter or a CallFailed that names it, as every exception does; the plugin lives on."""
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
    with stage.run(**sources) as scene:
        assert "Panic: out of start" in (scene.info("early").error or "")
        for name in ("plain", "lazy"):
            failed = refused(CallFailed, scene.call, f"{name}.method")
            assert (failed.remote_type, failed.remote_message) == ("Panic", "out of a method")
            assert f"{name}.py" in failed.remote_traceback
        for what in ("panic", "cancelled", "exit"):
            scene.kernel.emit("event", what=what)
        for name in ("plain", "lazy"):
            reasons = [letter["reason"] for letter in scene.until_letters(3, name)]
            for kind in ("Panic", "CancelledError", "GeneratorExit"):
                assert any(f"{kind}: out of a handler" in reason for reason in reasons), reasons
            assert scene.call(f"{name}.generation") == 1


def check_a_plugin_may_cancel_all_tasks(stage: Workspace) -> None:
    """``asyncio.all_tasks()`` and a loop that is stopped are the plugin's own business; the plugin lives on."""
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
    with stage.run(p=plugin(body)) as scene:
        scene.kernel.emit("cancel")
        assert "CancelledError" in scene.until_letters(1)[0]["reason"]
        scene.kernel.emit("halt")
        assert scene.call("p.generation") == 1
        assert scene.kernel.stop("p").state == "stopped"


def check_who_dies_by_an_exception_is_told_by_its_name(stage: Workspace) -> None:
    """``KeyboardInterrupt`` out of a handler ends the plugin, and the message says so, with the place."""
    body = """
    @on("go")
    {kind} go(self) -> None:
        raise KeyboardInterrupt("enough")
    """
    manifest = "supervision = { restart = 'temporary' }"
    sources = {kind.split()[0]: plugin(body.format(kind=kind), manifest=manifest) for kind in ("def", "async def")}
    with stage.run(**{f"p_{name}": source for name, source in sources.items()}) as scene:
        scene.kernel.emit("go")
        for name in sources:
            error = scene.until_state(f"p_{name}", "stopped").error or ""
            assert "KeyboardInterrupt: enough" in error, error
            assert f"p_{name}.py" in error, error


def check_a_restart_that_fails_is_tried_again(stage: Workspace) -> None:
    """A ``start`` that raises in a restart is charged like a death; a first start that raises is ``failed``."""
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
    with stage.run(p=plugin(body, manifest=QUICK), q=plugin(body, manifest=QUICK)) as scene:
        assert scene.info("q").state == "failed"
        assert scene.info("q").generation == 1
        refused(PluginDied, scene.call, "p.leave")
        scene.kernel.emit("work", n=1)
        assert scene.heard("worked", 1) == [{"n": 1, "generation": 4}]
        info = scene.until_state("p", "active")
        assert (info.generation, info.restarts, info.error) == (4, 3, None)


def check_restarts_that_fail_spend_the_budget(stage: Workspace) -> None:
    """Then the plugin is quarantined, and the message says why it did not start."""
    body = """
    def start(self) -> None:
        if self.api.generation > 1:
            raise ConnectionError("never again")
    @expose
    def leave(self) -> None:
        sys.exit(1)
    """
    with stage.run(p=plugin(body, manifest="supervision = { backoff = 0.01, intensity = 2 }")) as scene:
        refused(PluginDied, scene.call, "p.leave")
        info = scene.until_state("p", "quarantined")
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


def check_restart_policies(stage: Workspace) -> None:
    """``permanent`` always comes back, ``transient`` after an abnormal end, ``temporary`` never."""
    manifest = "supervision = {{ restart = {!r}, backoff = 0.01 }}"
    kinds = ("permanent", "transient", "temporary")
    sources = {kind: plugin(LEAVER, manifest=manifest.format(kind)) for kind in kinds}
    with stage.run(**sources) as scene:
        for kind in kinds:
            refused(PluginDied, scene.call, f"{kind}.leave", 1)
        assert scene.call("permanent.ping") == "pong"
        assert scene.call("transient.ping") == "pong"
        assert scene.until_state("temporary", "stopped").restarts == 0
        refused(PluginDied, scene.call, "permanent.leave", 0)
        refused(PluginDied, scene.call, "transient.leave", 0)
        assert scene.call("permanent.ping") == "pong"
        assert scene.until_state("transient", "stopped").restarts == 1
        refused(PluginNotActive, scene.call, "transient.ping")


def check_a_spent_budget_is_quarantine(stage: Workspace) -> None:
    """More than ``intensity`` deaths in ``period``: no more restarts, until somebody starts it with ``reset``."""
    manifest = "supervision = { intensity = 2, backoff = 0.01 }"
    body = f"""
    def start(self) -> None:
        if not self.api.get_data("mended"):
            sys.exit(1)
    {LEAVER}
    """
    with stage.run(p=plugin(body, manifest=manifest)) as scene:
        info = scene.until_state("p", "quarantined")
        assert (info.generation, info.restarts, info.error_id) == (3, 2, "MK0205")
        assert refused(PluginNotActive, scene.call, "p.ping").state == "quarantined"
        refused(PluginNotActive, scene.kernel.start, "p")
        scene.kernel.set_data("mended", True)
        assert scene.kernel.start("p", reset=True).state == "active"
        assert scene.call("p.ping") == "pong"


def check_stop_and_kill_in_backoff(stage: Workspace) -> None:
    """Who waits for a restart can be stopped: it does not come back."""
    manifest = "supervision = { backoff = 60.0, backoff_max = 60.0 }"
    with stage.run(p=plugin(LEAVER, manifest=manifest), q=plugin(LEAVER, manifest=manifest)) as scene:
        for name in "pq":
            refused(PluginDied, scene.call, f"{name}.leave")
            scene.until_state(name, "backoff")
        assert scene.kernel.stop("p").state == "stopped"
        assert scene.kernel.kill("q").state == "stopped"
        assert scene.kernel.start("p").state == "active"


@only_at("process")
def check_what_a_plugin_started_ends_with_it(stage: Workspace) -> None:
    """A child, and a grandchild that has cut all ties, are gone when the kill is done. (A confined one starts none.)"""
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

    with stage.run(p=plugin(body)) as scene:
        pids = scene.call("p.begin")
        assert all(_is_alive(pid) for pid in pids)
        assert os.getpid() not in pids
        scene.kernel.kill("p")
        assert [pid for pid in pids if _is_alive(pid)] == []


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check_a_suspect_that_raises_holds_nobody_up(stage: Workspace) -> None:
    """What was in flight at a death comes one at a time; a handler that raises then does not stop the rest."""
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
    with stage.run(p=plugin(body, manifest=QUICK)) as scene:
        for n in range(6):
            scene.kernel.emit("work", n=n)
        scene.release("go")
        scene.until(lambda: {event["n"] for event in scene.heard("worked")} >= {0, 3, 4, 5}, "the others")
        assert [letter["data"]["n"] for letter in scene.until_letters(2)] == [1, 2]


def check_a_busy_plugin_is_not_taken_for_a_silent_one(stage: Workspace) -> None:
    """The handler deadline is for what makes no progress: calls that always overlap are no silence."""
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
    with stage.run(p=plugin(body, manifest="limits = { handler = 0.3 }"), relay=plugin(relay)) as scene:

        def fire() -> None:
            for _ in range(40):
                scene.call("p.brief")

        under_way = [scene.beside(fire) for _ in range(3)]
        under_way += [scene.beside(scene.call, "relay.fire", 40) for _ in range(2)]
        for one in under_way:
            one.result()
        assert scene.info("p").restarts == 0


def check_who_waits_for_an_answer_can_be_killed(stage: Workspace) -> None:
    """In ``call``, ``ask``, ``acall``, ``sleep``: a wait of the kernel's making is no hiding place."""
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
    with stage.run(busy=plugin(body), waiter=plugin(waiter), lazy=plugin(lazy)) as scene:
        for count, (name, topic) in enumerate(
            (("waiter", "call"), ("waiter", "ask"), ("waiter", "sleep"), ("lazy", "acall")), 1
        ):
            scene.kernel.emit(topic)
            scene.heard("waiting", count)
            assert scene.kernel.kill(name).state == "stopped", topic
            scene.kernel.start(name)
        scene.kernel.kill("busy")


def check_a_start_that_ends_its_plugin_is_refused(stage: Workspace) -> None:
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
    with stage.run(p=plugin("")) as scene:
        for what, source in sources.items():
            scene.kernel.stop("p")
            stage.write("p", source)
            assert "exit" in refused(PluginLoadError, scene.kernel.start, "p").text, what
            scene.until_state("p", "backoff" if what == "start, again" else "stopped")
        scene.kernel.stop("p")
        refused(PluginLoadError, scene.kernel.reload, "p")
        path = stage.write("late", sources["start"])
        refused(PluginLoadError, scene.kernel.load, path)
        stage.write("late", plugin(""))
        assert scene.kernel.start("late").state == "active"
