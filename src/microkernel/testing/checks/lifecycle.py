"""A plugin's life cycle: load, start, stop, unload, and the information it has about itself."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from microkernel.errors import (
    CallTimeout,
    PluginDied,
    PluginLoadError,
    PluginNotActive,
    PluginNotFound,
    RequirementError,
)
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import only_at, requires_native

FACTS = plugin(
    '''
    """Tells what it knows of itself."""

    def start(self) -> None:
        self.api.on("some.topic", self.nothing)

    def nothing(self) -> None: ...

    @expose
    def facts(self, why: str = "") -> dict:
        """All of it."""
        api = self.api
        api.data_dir.joinpath("file").write_text("x")
        return {"name": api.name, "version": api.version, "generation": api.generation, "isolation": api.isolation,
                "data_dir": str(api.data_dir), "active": api.is_active, "config": api.config, "repr": repr(api),
                "pid": os.getpid()}
    ''',
    manifest='version = "1.2.3"',
)


def check_api_and_info_tell_who_it_is(workspace: Workspace) -> None:
    """``api.name`` and similar properties, and the fields of PluginInfo, are correct."""
    with workspace.run(facts=FACTS) as harness:
        info = harness.info("facts")
        facts = harness.call("facts.facts")
        assert (facts["name"], facts["version"], facts["generation"]) == ("facts", "1.2.3", 1)
        assert (facts["isolation"], facts["active"], facts["config"]) == (workspace.level, True, {})
        assert facts["repr"] == f"<PluginAPI of facts, generation 1, {workspace.level}>"
        assert Path(facts["data_dir"]) == workspace.folder / "data" / "facts"
        assert (info.name, info.version, info.state, info.isolation) == ("facts", "1.2.3", "active", workspace.level)
        assert (info.generation, info.restarts, info.error, info.error_id) == (1, 0, None, None)
        if workspace.level != "wasm":  # a guest is not a process and has a made-up process id
            assert info.pid == (None if workspace.level == "thread" else facts["pid"])
        assert (facts["pid"] == os.getpid()) == (workspace.level == "thread")
        assert info.doc == "Tells what it knows of itself."
        assert info.methods == {"facts": "(why: str = '')"}
        assert info.topics == ("some.topic",)
        assert info.path == str(workspace.plugins / "facts.py")
        assert "hard kill" in info.protections
        assert set(info.protections.values()) <= {"enforced", "watched", "unavailable"}
        assert info.up >= 0
        assert harness.info("facts").calls == 1
        assert [one.name for one in harness.kernel.list()] == ["facts"]


BELOW = plugin(
    """
    def start(self) -> None:
        self.api.set_data("below.up", True)
    @expose
    def ping(self) -> str:
        return "pong"
    def stop(self) -> None:
        self.api.emit("out.stopped", name="below")
    """,
    manifest='version = "2.1"',
)
ABOVE = plugin(
    """
    def start(self) -> None:
        self.saw = [self.api.get_data("below.up"), self.api.call("below.ping")]
    @expose
    def what(self) -> list:
        return self.saw
    def stop(self) -> None:
        self.api.emit("out.stopped", name="above", ping=self.api.call("below.ping"))
    """,
    manifest='requires = ["below>=2,<3"]',
)


def check_starts_and_stops_in_order_of_requirement(workspace: Workspace) -> None:
    """Required plugins are active before ``start``, and until ``stop`` has returned."""
    with workspace.run(above=ABOVE, below=BELOW) as harness:
        assert harness.call("above.what") == [True, "pong"]
        others = expect_error(RequirementError, harness.kernel.stop, "below").others
        assert others == "above"
        assert harness.info("below").state == "active"
    assert [event["name"] for event in harness.received("stopped")] == ["above", "below"]
    assert harness.received("stopped")[0]["ping"] == "pong"


def check_stop_of_what_is_required_can_cascade(workspace: Workspace) -> None:
    """``stop(cascade=True)`` first stops the plugins that require this one."""
    with workspace.run(above=ABOVE, below=BELOW) as harness:
        assert harness.kernel.stop("below", cascade=True).state == "stopped"
        assert harness.info("above").state == "stopped"
        assert [event["name"] for event in harness.received("stopped", 2)] == ["above", "below"]
        assert harness.kernel.start("below").state == "active"
        assert harness.kernel.start("above").state == "active"


EAGER = plugin(
    """
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        self.refused = []
        for attempt in (
            lambda: api.emit("out.x"), lambda: api.ask("out.x"), lambda: api.call("eager.what"),
            lambda: api.set_data("x", 1), lambda: api.get_data("x"), lambda: api.delete_data("x"),
            lambda: api.spawn(print),
        ):
            try:
                attempt()
            except errors.PluginNotActive as error:
                self.refused.append(str(error))
        api.on("some.topic", print)
        api.expose(self.what)
        api.every(60, print)
        api.after(60, print)
        api.watch_data("some.key", print)
    def what(self) -> list:
        return self.refused
    """
)


def check_init_only_registers(workspace: Workspace) -> None:
    """In ``__init__``, methods that send raise PluginNotActive with the place where they belong; methods that register
    work."""
    with workspace.run(eager=EAGER) as harness:
        texts = harness.call("eager.what")
        assert len(texts) == 7
        assert "move it to start()" in texts[0]


def check_what_init_raises_makes_it_failed(workspace: Workspace) -> None:
    """An exception in import, ``__init__`` or ``start`` makes the plugin ``failed``: shown with its location, not
    retried."""
    body = "def start(self) -> None:\n    raise KeyError('rates')"
    in_init = "def __init__(self, api: PluginAPI) -> None:\n    api.emit('too.early')"
    sources = {
        "at_start": plugin(body),
        "at_init": plugin(in_init),
        "at_import": plugin("", head="1 / 0"),
        "async_start": plugin("async def start(self) -> None:\n    raise KeyError('rates')"),
        "good": plugin("@expose\ndef ping(self) -> str:\n    return 'pong'"),
    }
    with workspace.run(**sources) as harness:
        errors = {info.name: info.error or "" for info in harness.kernel.list() if info.state == "failed"}
        assert set(errors) == {"at_start", "at_init", "at_import", "async_start"}
        assert "KeyError" in errors["at_start"]
        assert "rates" in errors["at_start"]
        assert "at_start.py" in errors["at_start"]
        assert "KeyError" in errors["async_start"]
        assert "PluginNotActive" in errors["at_init"]
        assert "ZeroDivisionError" in errors["at_import"]
        assert harness.call("good.ping") == "pong"
        assert harness.info("at_start").restarts == 0
        assert expect_error(PluginNotActive, harness.call, "at_start.x").state == "failed"
        assert "KeyError" in str(expect_error(PluginLoadError, harness.kernel.start, "at_start"))
        harness.workspace.write("at_start", plugin("@expose\ndef ping(self) -> str:\n    return 'mended'"))
        assert harness.kernel.start("at_start").state == "active"
        assert harness.call("at_start.ping") == "mended"
        assert harness.info("at_start").error is None


def check_start_that_hangs_is_ended(workspace: Workspace) -> None:
    """``while True: pass`` in ``start`` is ``failed`` at the deadline, and its code no longer runs."""
    manifest = "limits = { start = 0.2, stop = 0.2, kill_grace = 0.2 }"
    with workspace.run(hangs=plugin("def start(self) -> None:\n    while True: pass", manifest=manifest)) as harness:
        assert harness.info("hangs").state == "failed"
        assert harness.info("hangs").error_id == "MK0202"


def check_async_start_and_stop(workspace: Workspace) -> None:
    """``start`` and ``stop`` may be ``async``; handlers run after ``start`` has returned."""
    body = """
    async def start(self) -> None:
        self.api.on("x", self.on_x)
        self.api.emit("x")
        await asyncio.sleep(0)
        self.started = True
    def on_x(self) -> None:
        self.api.emit("out.handled", started=self.started)
    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.api.emit("out.stopped")
    """
    with workspace.run() as harness:
        harness.kernel.load(workspace.write("lazy", plugin(body)))
        assert harness.received("handled", 1) == [{"started": True}]
        harness.kernel.stop("lazy")
        assert harness.received("stopped", 1) == [{}]
        assert harness.info("lazy").state == "stopped"


def check_stop_that_raises_counts_as_stopped(workspace: Workspace) -> None:
    """An exception in ``stop`` is reported; the plugin is stopped nevertheless."""
    with workspace.run(rude=plugin("def stop(self) -> None:\n    raise OSError('no')")) as harness:
        assert harness.kernel.stop("rude").state == "stopped"


def check_stop_that_hangs_is_ended(workspace: Workspace) -> None:
    """``while True: pass`` in ``stop`` is ended within the deadlines: ask, insist, kill."""
    manifest = "limits = { stop = 0.1, kill_grace = 0.1 }"
    with workspace.run(hangs=plugin("def stop(self) -> None:\n    while True: pass", manifest=manifest)) as harness:
        assert harness.kernel.stop("hangs").state == "stopped"
        assert harness.kernel.start("hangs").state == "active"


def check_stop_waits_for_the_running_handler(workspace: Workspace) -> None:
    """A stop waits for a running handler, within its deadline."""
    body = """
    @on("work")
    def work(self) -> None:
        self.api.emit("out.begun")
        self.hold("go")
        self.api.emit("out.done")
    def stop(self) -> None:
        self.api.emit("out.stopped")
    """
    with workspace.run(slow=plugin(body)) as harness:
        harness.kernel.emit("work")
        harness.received("begun", 1)
        stopping = harness.in_background(harness.kernel.stop, "slow")
        harness.until_state("slow", "stopping")
        assert not harness.received("stopped")
        harness.release("go")
        assert stopping.result().state == "stopped"
        assert len(harness.received("done", 1)) == 1
        assert len(harness.received("stopped", 1)) == 1


_DRAINED = """
    {mark}
    {kind} work(self, n: int) -> None:
        if n == 0:
            self.hold("go")
        self.api.emit("out.worked", n=n)
        if n < 20:
            self.api.emit("work", n=n + 100)
    @expose
    def ping(self) -> str:
        return "pong"
    def stop(self) -> None:
        self.api.emit("out.stopped")
"""


def check_stop_handles_what_waits(workspace: Workspace) -> None:
    """Messages that are queued when the stop is decided are handled, then ``stop`` is called. Later events, also those
    of the plugin itself, are dead letters; later calls raise PluginNotActive."""
    kinds = {"plain": "def", "lazy": "async def"}
    sources = {name: plugin(_DRAINED.format(mark="@on('work')", kind=kind)) for name, kind in kinds.items()}
    for name, source in sources.items():
        with Workspace(workspace.level, workspace.folder / name).run(**{name: source}) as harness:
            for n in range(20):
                harness.kernel.emit("work", n=n)
            stopping = harness.in_background(harness.kernel.stop, name)
            harness.until_state(name, "stopping")
            harness.kernel.emit("work", n=20)
            assert expect_error(PluginNotActive, harness.call, f"{name}.ping").state == "stopping"
            assert not harness.received("stopped")
            harness.release("go")
            assert stopping.result().state == "stopped"
            assert {event["n"] for event in harness.received("worked", 20)} >= {*range(20)}
            assert len(harness.received("stopped", 1)) == 1
            late = [
                letter["data"]["n"] for letter in harness.until_dead_letters(1) if letter["reason"].endswith("stopping")
            ]
            assert 20 in late
            assert not {*range(20)} & {*late}
            assert harness.info(name).restarts == 0


@requires_native
def check_stop_handles_what_waits_on_several_threads(workspace: Workspace) -> None:
    """With ``concurrency`` too, a stop handles the queued messages first."""
    body = """
    @on("work")
    def work(self, n: int) -> None:
        if n < 2:
            self.hold("go")
        self.api.emit("out.worked", n=n)
    """
    with workspace.run(p=plugin(body, manifest="concurrency = 2")) as harness:
        for n in range(50):
            harness.kernel.emit("work", n=n)
        stopping = harness.in_background(harness.kernel.stop, "p")
        harness.until_state("p", "stopping")
        harness.release("go")
        assert stopping.result().state == "stopped"
        assert sorted(event["n"] for event in harness.received("worked", 50)) == [*range(50)]
        assert harness.kernel.dead_letters() == []


_HANGING = """
    @on("work")
    def work(self, n: int) -> None:
        self.api.emit("out.begun", n=n)
        while True:
            time.sleep(0.001)
"""


def check_a_drain_is_bounded(workspace: Workspace) -> None:
    """After ``limits.drain`` seconds, or at once with 0, with ``now``, or when another stop with ``now`` arrives, the
    plugin is stopped; messages that are not handled become dead letters."""
    ways = {"limit": 0.1, "none": 0, "now": 3600, "hurried": 3600}
    sources = {
        name: plugin(
            _HANGING.replace("work", name), manifest=f"limits = {{ drain = {drain}, stop = 0.1, kill_grace = 0.1 }}"
        )
        for name, drain in ways.items()
    }
    with workspace.run(**sources) as harness:
        for count, name in enumerate(sources, 1):
            for n in range(5):
                harness.kernel.emit(name, n=n)
            harness.received("begun", count)
            if name == "hurried":
                waiting = harness.in_background(harness.kernel.stop, name)
                harness.until_state(name, "stopping")
                harness.kernel.stop(name, now=True)
                assert waiting.result().state == "stopped"
            else:
                assert harness.kernel.stop(name, now=name == "now").state == "stopped", name
            letters = harness.until_dead_letters(5, name)
            assert sorted(letter["data"]["n"] for letter in letters) == [*range(5)]
            assert harness.kernel.start(name).state == "active"


def check_a_death_while_draining_is_an_end(workspace: Workspace) -> None:
    """A plugin that crashes while draining is not restarted: unhandled messages are dead letters, and callers get
    PluginDied."""
    body = """
    @on("work")
    def work(self, n: int) -> None:
        if n == 0:
            self.hold("go")
        if n == 3:
            sys.exit(3)
        self.api.emit("out.worked", n=n)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run(p=plugin(body)) as harness:
        for n in range(5):
            harness.kernel.emit("work", n=n)
        waiting = harness.in_background(harness.call, "p.ping")
        harness.until(lambda: harness.info("p").waiting == 6, "a call that waits")
        stopping = harness.in_background(harness.kernel.stop, "p")
        harness.until_state("p", "stopping")
        harness.release("go")
        info = stopping.result()
        assert (info.state, info.restarts) == ("stopped", 0)
        waiting.error(PluginDied)
        assert [letter["data"]["n"] for letter in harness.until_dead_letters(2)] == [3, 4]


@requires_native
def check_spawned_coroutines_clean_up(workspace: Workspace) -> None:
    """A spawned coroutine's ``finally`` is completed before ``stop`` is called; one that waits for an effect of
    ``stop`` causes no deadlock. Also without an event loop in the plugin."""
    tidy = """
    def start(self) -> None:
        self.api.spawn({what})
    def stop(self) -> None:
        self.api.emit("out.stopped", name=self.api.name)
    """
    coroutine = """
    async def {name}({parameters}) -> None:
        {api}.emit("out.running")
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(20):
                await asyncio.sleep(0.002)
            {api}.emit("out.tidied", name={api}.name)
    """
    own = tidy.format(what="self.run") + coroutine.format(name="run", parameters="self", api="self.api")
    alone = tidy.replace("{what}", "run, self.api")
    waits = """
    async def start(self) -> None:
        self.stopped = asyncio.Event()
        self.api.spawn(self.run)
    async def run(self) -> None:
        self.api.emit("out.running")
        try:
            await asyncio.sleep(3600)
        finally:
            await self.stopped.wait()
            self.api.emit("out.tidied", name=self.api.name)
    def stop(self) -> None:
        self.stopped.set()
        self.api.emit("out.stopped", name=self.api.name)
    """
    head = textwrap.dedent(coroutine.format(name="run", parameters="api", api="api"))
    sources = {
        "own": plugin(own),
        "alone": plugin(alone, head=head),
        "waits": plugin(waits, manifest="limits = { stop = 1.0 }"),
    }
    with workspace.run(**sources) as harness:
        harness.received("running", 3)
        for count, name in enumerate(sources, 1):
            assert harness.kernel.stop(name).state == "stopped"
            assert harness.received("tidied", count)[-1] == {"name": name}
            assert harness.received("stopped", count)[-1] == {"name": name}


def check_a_cancel_counts_while_a_stop_waits(workspace: Workspace) -> None:
    """An async method that a stop waits for is cancelled at its caller's deadline; then ``stop`` is called."""
    body = """
    @expose
    async def wait(self) -> None:
        self.api.emit("out.begun")
        try:
            await asyncio.sleep(3600)
        finally:
            self.api.emit("out.cancelled")
    def stop(self) -> None:
        self.api.emit("out.stopped")
    """
    with workspace.run(lazy=plugin(body, manifest="limits = { stop = 20.0 }")) as harness:
        waiting = harness.in_background(harness.call, "lazy.wait", timeout=1.0)
        harness.received("begun", 1)
        assert harness.kernel.stop("lazy").state == "stopped"
        assert len(harness.received("cancelled", 1)) == 1
        assert len(harness.received("stopped", 1)) == 1
        waiting.error(CallTimeout)


def check_stopped_means_deaf(workspace: Workspace) -> None:
    """All registrations are removed at a stop; the next start is the next generation."""
    body = """
    @on("x")
    def on_x(self) -> None:
        self.api.emit("out.x", generation=self.api.generation)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run(ear=plugin(body)) as harness:
        harness.kernel.stop("ear")
        harness.kernel.emit("x")
        assert expect_error(PluginNotActive, harness.call, "ear.ping").state == "stopped"
        assert harness.info("ear").topics == ()
        assert harness.info("ear").methods == {}
        assert harness.info("ear").pid is None
        assert harness.kernel.stop("ear").state == "stopped"  # idempotent
        harness.kernel.start("ear")
        harness.kernel.emit("x")
        assert harness.received("x", 1) == [{"generation": 2}]
        assert harness.kernel.dead_letters() == []


def check_load_and_unload_at_run_time(workspace: Workspace) -> None:
    """``load`` adds and starts one plugin, ``unload`` stops and removes it, with its keys."""
    body = """
    def start(self) -> None:
        self.api.set_data("extra.key", 1)
    @expose
    def ping(self) -> str:
        return "pong"
    """
    with workspace.run() as harness:
        path = workspace.write("extra", plugin(body))
        assert harness.kernel.load(path).state == "active"
        assert harness.call("extra.ping") == "pong"
        assert expect_error(PluginLoadError, harness.kernel.load, path).id == "MK0107"
        harness.kernel.stop("extra")
        assert harness.kernel.get_data("extra.key") == 1
        assert harness.kernel.unload("extra") == []
        assert harness.kernel.get_data("extra.key") is None
        assert "extra" in expect_error(PluginNotFound, harness.call, "extra.ping").text
        assert harness.kernel.load(path).generation == 1


def check_package_with_relative_imports(workspace: Workspace) -> None:
    """A folder is a package: relative imports work, lazy ones too, and load the snapshot, not the disk."""
    sources = {
        "__init__.py": plugin(
            """
            @expose
            def early(self) -> int:
                return ANSWER
            @expose
            def late(self) -> str:
                from .inner.deep import word
                return word()
            """,
            head="from .helper import ANSWER",
        ),
        "helper.py": "from .inner import HALF\nANSWER = 2 * HALF\n",
        "inner/__init__.py": "HALF = 21\n",
        "inner/deep.py": "from .. import helper\ndef word() -> str:\n    return f'deep {helper.ANSWER}'\n",
        "plugin.toml": 'version = "3.0"\n',
    }
    with workspace.run(packed=sources) as harness:
        assert harness.info("packed").version == "3.0"
        assert harness.call("packed.early") == 42
        (workspace.plugins / "packed" / "inner" / "deep.py").write_text("1/0")
        assert harness.call("packed.late") == "deep 42"


CONFIGURED = plugin(
    """
    @expose
    def show(self) -> list:
        config = self.api.config
        return [type(config).__name__, config.size, config.rate, config.nested.word, len(config.key)]
    @expose
    def say_it(self) -> None:
        self.api.log.info("%r", self.api.config.size)
    """,
    head="""
    from dataclasses import dataclass, field
    from decimal import Decimal
    from typing import Annotated
    from microkernel import Secret

    @dataclass
    class Nested:
        word: str = "none"

    @dataclass
    class Config:
        size: int
        key: Annotated[str, Secret]
        rate: Decimal = Decimal("0.5")
        nested: Nested = field(default_factory=Nested)
    """,
)


def _configured(**config: object) -> KernelConfig:
    return KernelConfig(plugin={"p": PluginConfig(config=config)})


def check_config_has_the_type_of_class_config(workspace: Workspace) -> None:
    """``class Config`` in the module is the type of ``api.config``; a Secret from the environment is shown nowhere."""
    os.environ["MK_CHECK_SECRET"] = "hush-hush"
    try:
        config = _configured(size=7, key={"env": "MK_CHECK_SECRET"}, nested={"word": "w"})
        with workspace.run(config, p=CONFIGURED) as harness:
            assert harness.call("p.show") == ["Config", 7, "0.5", "w", 9]
            harness.call("p.say_it")
            shown = f"{harness.info('p')}{harness.log_lines('p')}{harness.kernel.call('kernel.info', 'p')}"
            assert "hush-hush" not in shown
    finally:
        del os.environ["MK_CHECK_SECRET"]


def check_config_that_does_not_fit_is_failed(workspace: Workspace) -> None:
    """A wrong type in the configuration makes the plugin ``failed`` and names the path; so do an unknown key and an
    unset variable."""
    with workspace.run(_configured(size="seven", key="hush-hush"), p=CONFIGURED) as harness:
        info = harness.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0121")
        assert "size" in (info.error or "")
        assert "hush-hush" not in str(info)
    with workspace.run(_configured(sizes=7, key="hush-hush"), p=CONFIGURED) as harness:
        info = harness.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0121")
        assert "[plugin.p.config]" in (info.error or "")
        assert "unknown key 'sizes'; did you mean 'size'?" in (info.error or "")
    with workspace.run(_configured(size=7, key={"env": "MK_NO_SUCH"}), p=CONFIGURED) as harness:
        assert harness.info("p").state == "failed"
        assert "MK_NO_SUCH" in (harness.info("p").error or "")


TALKER = plugin(
    """
    @expose
    def talk(self) -> None:
        self.api.log.info("logged %d", 1)
        self.api.log.debug("not shown")
        try:
            1 / 0
        except ZeroDivisionError:
            self.api.log.exception("with a trace")
        say = self.api.say
        say.explain("e"); say.direct("d"); say.success("{n} rows", n=3); say.notice("n"); say.warn("w"); say.error("x")
    @expose
    def print(self) -> None:
        print("to stdout\\nand more")
        print("to stderr", file=sys.stderr)
        os.write(1, b"raw, without an end")
    """
)


def check_log_arrives(workspace: Workspace) -> None:
    """The kernel stores the output of ``api.log`` and ``api.say``, in order."""
    with workspace.run(talker=TALKER) as harness:
        harness.call("talker.talk")
        lines = harness.until_log_lines("talker", 8)
        assert lines[0] == ("log", "logged 1")
        assert lines[1][1].startswith("with a trace\nTraceback")
        assert "ZeroDivisionError" in lines[1][1]
        assert lines[2:] == [
            ("explain", "e"), ("direct", "d"), ("success", "3 rows"), ("notice", "n"), ("warn", "w"), ("error", "x"),
        ]  # fmt: skip


@only_at("process", "sandbox")
def check_output_arrives(workspace: Workspace) -> None:
    """Standard output and error are stored line by line; an incomplete line at the end."""
    with workspace.run(talker=TALKER) as harness:
        harness.call("talker.print")
        harness.kernel.stop("talker")
        lines = harness.until_log_lines("talker", 4)
        by_stream = {stream: [text for s, text in lines if s == stream] for stream in ("stdout", "stderr")}
        assert by_stream == {"stdout": ["to stdout", "and more", "raw, without an end"], "stderr": ["to stderr"]}
