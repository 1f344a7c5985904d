"""A plugin's life cycle: load, start, order of requirement, unload, and the information it has about itself."""

from __future__ import annotations

import os
from pathlib import Path

from microkernel.errors import PluginLoadError, PluginNotActive, PluginNotFound, RequirementError
from microkernel.testing.harness import Workspace, expect_error, plugin

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
