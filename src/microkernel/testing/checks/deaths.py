"""Crashes: what counts as one, and what happens to the events of a plugin that crashed."""

from __future__ import annotations

from microkernel.errors import CallFailed
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import only_at, requires_native

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
