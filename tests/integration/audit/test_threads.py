"""Each kind of thing that a thread plugin leaves is undone or reported; a clean plugin leaves nothing."""

from __future__ import annotations

import asyncio
import atexit
import builtins
import csv
import gc
import locale
import logging
import os
import resource
import socket
import sys
import threading
import time
import warnings
import weakref
import zipimport
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.harness.leftovers import descriptors
from tests.security.attacks.support import Plugins, eventually, state_is

HEAD = "import asyncio, atexit, gc, logging, warnings\nimport shared_things\n"
PLUGIN = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        {start}
    def stop(self): pass
    def hook(self, *args): raise AssertionError("code of a plugin that has gone")
    @expose
    def crash(self): sys.exit(3)
"""


def leaving(plugins: Plugins, start: str, more: str = "", **tables: object) -> None:
    """Load a plugin that does this in ``start`` and never undoes it."""
    body = HEAD + PLUGIN.format(start=start.replace("\n", "\n        ")) + more
    plugins.add("leaver", body, **tables)


def unload(plugins: Plugins, name: str = "leaver") -> tuple[list[str], list[str]]:
    """Unload it. Return what is left, and what was undone."""
    undone: list[str] = []
    with plugins.kernel("thread") as kernel:

        def hear(id: str, fields: dict[str, object], **_: object) -> None:
            if id == "MK0303":
                undone.append(str(fields["what"]))

        kernel.on("kernel.message", hear, inline=True)
        left = kernel.unload(name)
    return left, undone


class AtexitRecorder:
    """Equal to nothing; records the functions of ``atexit``, which are compared with it."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        atexit.unregister(self)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        self.seen.append(other)
        return False

    __hash__ = None  # type: ignore[assignment]


def at_exit() -> list[object]:
    return AtexitRecorder().seen


def of_plugins() -> list[object]:
    return [each for each in at_exit() if "Plugin" in repr(each)]


# What is undone

UNDONE = {
    "atexit.register(self.hook)": "method 'hook' (leaver.py:11) in atexit",
    "atexit.register(lambda: self)": "closure '<lambda>' (leaver.py:9) in atexit",
    "import functools; atexit.register(functools.partial(self.hook, 1))": "method 'hook' (leaver.py:11) in atexit",
    "sys.excepthook = self.hook": "sys.excepthook, which was method 'hook' (leaver.py:11)",
    "sys.unraisablehook = self.hook": "sys.unraisablehook, which was method 'hook' (leaver.py:11)",
    "threading.excepthook = self.hook": "threading.excepthook, which was method 'hook' (leaver.py:11)",
    "threading.settrace(self.hook)": "threading._trace_hook, which was method 'hook' (leaver.py:11)",
    "warnings.showwarning = self.hook": "warnings.showwarning, which was method 'hook' (leaver.py:11)",
    "sys.stderr = Stream()": "sys.stderr, which was Stream object",
    "sys.meta_path.append(Stream())": "Stream object in sys.meta_path",
    "import copyreg; copyreg.pickle(Plugin, str)": "class Plugin in copyreg",
    "gc.callbacks.append(self.hook)": "method 'hook' (leaver.py:11) in gc.callbacks",
    "logging.getLogger('theirs').addHandler(Handler())": "log handler Handler at logger 'theirs'",
    "logging.getLogger('theirs').addFilter(self.hook)": "log filter method 'hook' (leaver.py:11) at logger 'theirs'",
}
CLASSES = """
class Stream:
    def write(self, text): pass
    def flush(self): pass
    def find_spec(self, *args): return None
class Handler(logging.Handler):
    def emit(self, record): pass
"""


@pytest.mark.parametrize("start", UNDONE)
def test_a_registration_is_undone_and_reported(plugins: Plugins, shared: ModuleType, start: str) -> None:
    places = [(sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"), (threading, "_trace_hook"),
              (warnings, "showwarning"), (sys, "stderr"), (logging.getLogger("theirs"), "handlers"),
              (logging.getLogger("theirs"), "filters"), (sys, "meta_path")]  # fmt: skip
    before = [getattr(place, name) for place, name in places]
    leaving(plugins, start, CLASSES)
    assert unload(plugins) == ([], [UNDONE[start]])
    assert [getattr(place, name) for place, name in places] == before
    assert of_plugins() == []


def test_atexit_functions_of_others_stay(plugins: Plugins, shared: ModuleType) -> None:
    def mine() -> None: ...

    atexit.register(mine)
    leaving(plugins, "atexit.register(self.hook)")
    try:
        assert unload(plugins)[0] == []
        assert mine in at_exit()
    finally:
        atexit.unregister(mine)


def test_entries_under_the_plugins_names_are_removed_silently(plugins: Plugins, shared: ModuleType) -> None:
    loggers = "logging.getLogger(__name__).info('x')\nlogging.getLogger(__name__ + '.more')\n"
    start = loggers + "sys.modules['alias'] = sys.modules[__name__]"
    leaving(plugins, start)
    assert unload(plugins) == ([], [])
    assert "alias" not in sys.modules
    assert not [name for name in (*logging.Logger.manager.loggerDict, *sys.modules) if "mkplugin.leaver" in name]


def test_its_names_go_while_others_import(plugins: Plugins, shared: ModuleType) -> None:
    """Creating any object may run the collector, and so other code, or other threads."""
    came: list[str] = []

    def imports(phase: str, _: object) -> None:
        came.append(f"tests.came_{len(came)}")
        sys.modules[came[-1]] = shared

    leaving(plugins, "sys.modules['alias'] = sys.modules[__name__]")
    with plugins.kernel("thread") as kernel:
        before = gc.get_threshold()
        gc.callbacks.append(imports)
        gc.set_threshold(1)
        try:
            assert kernel.unload("leaver") == [f"gc.get_threshold() is {gc.get_threshold()}, and was {before}"]
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(imports)
            for name in came:
                del sys.modules[name]
    assert "alias" not in sys.modules


def test_a_waiting_timer_is_cancelled(plugins: Plugins, shared: ModuleType) -> None:
    leaving(plugins, "threading.Timer(3600, self.hook).start()")
    assert unload(plugins) == ([], [])
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_hooks_are_restored_on_reload_and_after_a_crash(plugins: Plugins, shared: ModuleType) -> None:
    def mine(*args: object) -> None: ...

    before, sys.excepthook = sys.excepthook, mine
    try:
        leaving(plugins, "sys.excepthook = self.hook", supervision={"backoff": 0.01})
        with plugins.kernel("thread") as kernel:
            kernel.reload("leaver")
            with pytest.raises(Exception, match=r"sys\.exit"):
                kernel.call("leaver.crash")
            eventually(lambda: kernel.info("leaver").generation == 3 and kernel.info("leaver").state == "active")
            assert kernel.unload("leaver") == []
        assert sys.excepthook is mine
    finally:
        sys.excepthook = before


# What is named

NAMED = {
    "shared_things.SEEN.append(self)": "Plugin object: kept by list 'SEEN' of module shared_things (shared_things.py)",
    "shared_things.LAST = self": "Plugin object: kept by 'LAST' of module shared_things (shared_things.py)",
    "shared_things.SEEN.append(lambda: self)": (
        "class Plugin: kept by closure '<lambda>' (leaver.py:9), in list 'SEEN' of module shared_things "
        "(shared_things.py)"
    ),
    "shared_things.BOARD[1] = Plugin": "class Plugin: kept by dict 'BOARD' of module shared_things (shared_things.py)",
    "shared_things.BOX.item = self": (
        "Plugin object: kept by Box object, in 'BOX' of module shared_things (shared_things.py)"
    ),
    "shared_things.Box.method = self.hook": (
        "Plugin object: kept by method 'hook' (leaver.py:11), in 'method' of class shared_things.Box"
    ),
    "try: 1 / 0\nexcept Exception as error: shared_things.SEEN.append(error)": (
        "Plugin object: kept by a frame of start (leaver.py:10), in a traceback, in ZeroDivisionError object, "
        "in list 'SEEN' of module shared_things (shared_things.py)"
    ),
    "atexit.register(print, self)": (
        "Plugin object: kept by what the collector cannot see: local variables of code that runs, or an extension"
    ),
}


@pytest.mark.parametrize("start", NAMED)
def test_referrers_that_keep_objects_alive_are_named(plugins: Plugins, shared: ModuleType, start: str) -> None:
    leaving(plugins, start)
    left, undone = unload(plugins)
    atexit.unregister(print)
    assert (left, undone) == ([NAMED[start]], [])


def test_a_list_of_another_plugin_is_named(plugins: Plugins, shared: ModuleType) -> None:
    plugins.add(
        "collector",
        """
        import shared_things
        class Plugin(IPlugin):
            def __init__(self, api): self.kept = []
            def start(self): pass
            def stop(self): pass
            @expose
            def take(self):
                self.kept.extend(shared_things.SEEN)
                shared_things.SEEN.clear()
    """,
    )
    leaving(plugins, "shared_things.SEEN.append(self)")
    with plugins.kernel("thread") as kernel:
        kernel.call("collector.take")
        left = kernel.unload("leaver")
    assert left == ["Plugin object: kept by list 'kept' of Plugin object of plugin collector"]


def test_a_running_thread_is_reported_with_its_position(plugins: Plugins, shared: ModuleType) -> None:
    leaving(
        plugins,
        "threading.Thread(target=beat, name='worker-1', daemon=True).start()",
        """
def beat():
    while not shared_things.SEEN:
        time.sleep(0.001)
""",
    )
    left = unload(plugins)[0]
    shared.SEEN.append("enough")
    assert len(left) == 1
    assert left[0].startswith("a running thread 'worker-1' in beat (leaver.py:1")


def test_a_traceback_in_the_last_record_of_a_logger(plugins: Plugins, shared: ModuleType) -> None:
    from logging.handlers import MemoryHandler

    keeper = MemoryHandler(100, flushLevel=100)
    logging.getLogger("theirs").addHandler(keeper)
    logging.getLogger("theirs").propagate = False  # pytest keeps records too
    try:
        leaving(plugins, "try: 1 / 0\nexcept Exception: logging.getLogger('theirs').exception('x')")
        (left,) = unload(plugins)[0]
    finally:
        logging.getLogger("theirs").removeHandler(keeper)
        logging.getLogger("theirs").propagate = True
    assert left.startswith("Plugin object: kept by a frame of start (leaver.py:10), in a traceback, ")
    assert left.endswith(" logger 'theirs'")


def test_the_search_is_bounded_and_reports_that(plugins: Plugins, shared: ModuleType) -> None:
    deep = "kept = self\nfor _ in range(50): kept = [kept]\nshared_things.SEEN.append(kept)"
    leaving(plugins, deep)
    assert unload(plugins)[0] == ["Plugin object: nothing was found after 12 steps"]
    shared.SEEN.clear()
    leaving(plugins, "shared_things.SEEN.append([[self] for _ in range(5000)])")
    assert unload(plugins)[0] == ["Plugin object: nothing was found after 2000 objects"]


# When


def test_reload_returns_what_the_old_generation_left(plugins: Plugins, shared: ModuleType) -> None:
    leaving(plugins, "if not shared_things.SEEN: shared_things.SEEN.append(self)")
    with plugins.kernel("thread") as kernel:
        report = kernel.reload("leaver")
        assert report.leaked == ["Plugin object: kept by list 'SEEN' of module shared_things (shared_things.py)"]
        assert kernel.reload("leaver").leaked == report.leaked  # it is still there
        shared.SEEN[:] = [None]
        assert kernel.reload("leaver").leaked == []
        assert kernel.unload("leaver") == []


def test_unload_after_a_crash_reports_the_dead_generation(plugins: Plugins, shared: ModuleType) -> None:
    leaving(plugins, "shared_things.SEEN.append(self)", supervision={"restart": "temporary"})
    with plugins.kernel("thread") as kernel:
        with pytest.raises(Exception, match=r"sys\.exit"):
            kernel.call("leaver.crash")
        state_is(kernel, "leaver", "stopped")
        assert kernel.unload("leaver") == [
            "Plugin object: kept by list 'SEEN' of module shared_things (shared_things.py)"
        ]


def test_a_plugin_whose_start_or_import_failed_leaves_nothing(plugins: Plugins, shared: ModuleType) -> None:
    leaving(plugins, "atexit.register(self.hook); raise KeyError('start')")
    broken = "import atexit\nclass Plugin(IPlugin): pass\natexit.register(Plugin)\nraise KeyError('import')"
    plugins.add("broken", broken)
    with plugins.kernel("thread") as kernel:
        assert kernel.unload("leaver") == []
        assert kernel.unload("broken") == []
    assert of_plugins() == []


def test_a_killed_plugin_leaves_nothing(plugins: Plugins, shared: ModuleType) -> None:
    leaving(plugins, "self.api.after(0, self.spin)", "    def spin(self):\n        while True: pass\n")
    with plugins.kernel("thread") as kernel:
        kernel.kill("leaver")
        assert kernel.unload("leaver") == []


# Clean ones

CLEAN = {
    "plain": """
    @on("hit")
    def hit(self, n: int = 0): pass
    @every(0.001)
    def beat(self): pass
""",
    "async": """
    @on("hit")
    async def hit(self, n: int = 0): await asyncio.sleep(3600)
""",
    "spawning": """
    @on("hit")
    def hit(self): self.api.spawn(self.work)
    def work(self):
        while self.api.is_active: self.api.sleep(1)
""",
    "config": """
    @on("hit")
    def hit(self): assert self.api.config.port == 25
from dataclasses import dataclass
@dataclass
class Config:
    port: int = 25
""",
    "typed": """
    @on("hit")
    def hit(self, order: "Optional[Order]" = None, line: "Optional[Line]" = None): self.api.spawn(self.ask)
    @expose
    def give(self) -> "Order": return Order([Line(2)])
    def ask(self): self.api.call("leaver.give", returns=Order)
from dataclasses import dataclass
from typing import Optional
import msgspec
@dataclass
class Line:
    n: int = 1
class Order(msgspec.Struct):
    lines: list[Line] = []
    first: Optional[Line] = None
""",
    "cyclic": """
    @on("hit")
    def hit(self): ME.append(self)
ME = []
""",
    "raising": """
    @on("hit")
    def hit(self): raise KeyError(self)
""",
}


@pytest.mark.filterwarnings("ignore")  # of coroutines that a kill left; pytest would keep them
@pytest.mark.parametrize("how", ["unload", "reload", "crash", "kill"])
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("kind", CLEAN)
def test_a_clean_plugin_leaves_nothing(
    plugins: Plugins, shared: ModuleType, kind: str, concurrency: int, how: str
) -> None:
    limits = {"drain": 0.1, "stop": 0.2} if kind == "async" else {}  # whose handlers do not return by themselves
    tables = {"concurrency": concurrency, "supervision": {"restart": "temporary"}, "limits": limits}
    leaving(plugins, "pass", CLEAN[kind], **tables)
    with plugins.kernel("thread") as kernel:
        for _ in range(3):
            kernel.emit("hit")
        eventually(lambda: kernel.info("leaver").waiting == 0 or kind == "async", "all are handled")
        if how == "reload":
            assert kernel.reload("leaver").leaked == []
        elif how == "crash":
            with pytest.raises(Exception, match=r"sys\.exit"):
                kernel.call("leaver.crash")
            state_is(kernel, "leaver", "stopped")
        elif how == "kill":
            kernel.kill("leaver")
        assert kernel.unload("leaver") == []


def test_the_kernel_holds_no_plugin_object(plugins: Plugins, shared: ModuleType) -> None:
    """Holds without an audit too: after a stop."""
    leaving(plugins, "import weakref; shared_things.SEEN.append(weakref.ref(self))")
    with plugins.kernel("thread") as kernel:
        kernel.stop("leaver")
        gc.collect()
        held: weakref.ref[object] = shared.SEEN[0]
        assert held() is None


class SlowGarbage:
    """Garbage whose collection does not end, and lets other threads run."""

    def __init__(self, begun: threading.Event, go_on: threading.Event) -> None:
        self.itself, self.begun, self.go_on = self, begun, go_on

    def __del__(self) -> None:
        self.begun.set()
        self.go_on.wait(10.0)


def test_objects_that_another_thread_is_collecting_are_not_reported(
    plugins: Plugins, shared: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    other = threading.Thread(target=gc.collect)

    def ends(_: float) -> None:
        go_on.set()
        other.join()

    leaving(plugins, "pass")
    with plugins.kernel("thread") as kernel:
        kernel.stop("leaver")
        SlowGarbage(begun, go_on)
        other.start()
        begun.wait(10.0)
        monkeypatch.setattr(
            "microkernel.hosts.thread.leftovers.time", SimpleNamespace(monotonic=time.monotonic, sleep=ends)
        )
        assert kernel.unload("leaver") == []
    assert go_on.is_set()


def test_registrations_with_the_kernel_are_removed(plugins: Plugins, shared: ModuleType) -> None:
    leaving(
        plugins,
        "self.api.set_data('leaver.key', 1)",
        """
    @on("hit")
    def hit(self): pass
    @every(3600)
    def beat(self): pass
""",
    )
    with plugins.kernel("thread") as kernel:
        assert kernel.get_data("leaver.key") == 1
        api_free = len(kernel.core.topics.matches["hit"])
        kernel.unload("leaver")
        assert kernel.get_data("leaver.key") is None
        assert len(kernel.core.topics.matches["hit"]) == api_free - 1


def test_a_failing_audit_is_reported_and_harmless(
    plugins: Plugins, shared: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise OSError("no such luck")

    monkeypatch.setattr("microkernel.hosts.thread.leftovers.running", broken)
    leaving(plugins, "pass")
    assert unload(plugins)[0] == ["the audit failed: OSError: no such luck"]


def test_each_message_is_announced(plugins: Plugins, shared: ModuleType) -> None:
    leaving(plugins, "shared_things.SEEN.append(self); atexit.register(self.hook)")
    with plugins.kernel("thread") as kernel:
        heard: list[str] = []
        kernel.on("kernel.message", lambda id, **_: heard.append(id), inline=True)
        kernel.unload("leaver")
        eventually(lambda: {"MK0302", "MK0303"} <= set(heard))


# What the whole process shares

CHANGED = {
    "logging.getLogger().setLevel(5)": "the level of logger 'root' is Level 5, and was {level}",
    "logging.getLogger('theirs').setLevel(5)": "the level of logger 'theirs' is Level 5, and was NOTSET",
    "logging.getLogger('theirs').disabled = True": "logger 'theirs' is disabled",
    "logging.disable(7)": "logging.disable() is 7, and was 0",
    "os.environ['MK_LEFT'] = 'a secret'": "environment variable MK_LEFT was set",
    "os.environ.pop('MK_THERE')": "environment variable MK_THERE was removed",
    "os.environ['MK_THERE'] = 'other'": "environment variable MK_THERE was changed",
    "os.chdir('/')": "the working folder is /, and was {cwd}",
    "os.umask(0o011)": "the umask is 0011, and was {umask}",
    "logging.getLogger().handlers.clear()": "logger 'root': its handler {handler} was removed",
    "logging.getLogger().handlers[:] = [logging.NullHandler()]": "logger 'root': its handler {handler} was removed",
    "logging.getLogger('theirs').propagate = False": "logger 'theirs': propagate is False, and was True",
    "logging.captureWarnings(True)": "logging.captureWarnings() is on, and was off",
    "gc.set_threshold(9, 9, 9)": "gc.get_threshold() is (9, 9, 9), and was {threshold}",
    "import builtins; builtins.mk_left = 1": "builtins.mk_left was set",
    "import builtins; builtins.mk_there = 2": "builtins.mk_there was changed",
    "import zipimport; sys.path_hooks.append(zipimport.ZipImportError)": "sys.path_hooks: ZipImportError was added",
    "import threading; threading.stack_size(1 << 20)": "threading.stack_size() is 1048576, and was 0",
    "import csv; csv.field_size_limit(99)": "csv.field_size_limit() is 99, and was 131072",
    "import resource as r; r.setrlimit(4, (0, r.getrlimit(4)[1]))": "the limit RLIMIT_CORE is 0, and was 7",
    "gc.disable()": "the garbage collector is off, and was on",
    "socket.setdefaulttimeout(3)": "socket.getdefaulttimeout() is 3.0, and was None",
    "sys.path.append('/nowhere')": "sys.path: '/nowhere' was added",
    "sys.path.remove(sys.path[-1])": "sys.path: {last!r} was removed",
    "locale.setlocale(locale.LC_COLLATE, 'C.UTF-8')": "the locale is LC_CTYPE=",
    "asyncio.set_event_loop_policy(Policy())": "asyncio's event loop policy is Policy, and was the default",
    "warnings.simplefilter('always')": "warning filters: 'always::Warning' was added",
    "warnings.filterwarnings('error', 'x', Oh)": "warning filters: 'error:x:Oh' was added",
    "sys.setrecursionlimit(5000)": "sys.getrecursionlimit() is 5000, and was {recursion}",
    "sys.setswitchinterval(0.25)": "sys.getswitchinterval() is 0.25, and was {switch}",
}
MORE = """
    @expose
    def go(self):
        {start}
class Policy(asyncio.DefaultEventLoopPolicy): pass
class Oh(Warning): pass
"""


@pytest.fixture
def process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Restore everything that these plugins change; returns what it was, for the expected messages."""
    root, theirs, umask = logging.getLogger(), logging.getLogger("theirs"), os.umask(0o022)
    os.umask(umask)
    monkeypatch.setenv("MK_THERE", "1")
    monkeypatch.chdir(os.getcwd())
    monkeypatch.setattr(builtins, "mk_there", 1, raising=False)
    core, threshold, handlers = resource.getrlimit(resource.RLIMIT_CORE), gc.get_threshold(), list(root.handlers)
    resource.setrlimit(resource.RLIMIT_CORE, (7, core[1]))
    root.handlers[:] = [logging.NullHandler()]
    path, filters, level, limit = list(sys.path), list(warnings.filters), root.level, sys.getrecursionlimit()
    switch, place = sys.getswitchinterval(), locale.setlocale(locale.LC_ALL)
    yield {
        "cwd": os.getcwd(), "umask": f"{umask:04o}", "recursion": limit, "switch": switch,
        "last": path[-1], "level": logging.getLevelName(level), "handler": "NullHandler", "threshold": threshold,
    }  # fmt: skip
    os.environ.pop("MK_LEFT", None)
    os.umask(umask)
    gc.enable()
    sys.setrecursionlimit(limit)
    sys.setswitchinterval(switch)
    sys.path[:] = path
    warnings.filters[:] = filters  # type: ignore[index]
    locale.setlocale(locale.LC_ALL, place)
    socket.setdefaulttimeout(None)
    asyncio.set_event_loop_policy(None)
    logging.disable(0)
    root.setLevel(level)
    theirs.setLevel(0)
    theirs.disabled, theirs.propagate = False, True
    root.handlers[:] = handlers
    logging.captureWarnings(False)
    gc.set_threshold(*threshold)
    vars(builtins).pop("mk_left", None)
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if hook is not zipimport.ZipImportError]
    threading.stack_size(0)
    csv.field_size_limit(131072)
    resource.setrlimit(resource.RLIMIT_CORE, core)


@pytest.mark.parametrize(
    ("change", "when"),
    [
        *((change, "in start") for change in CHANGED),
        *((change, when) for change in list(CHANGED)[:4] for when in ("at import", "in a method")),
    ],
)
def test_a_change_of_process_wide_state_is_reported(
    plugins: Plugins, shared: ModuleType, process_state: dict[str, object], change: str, when: str
) -> None:
    start = change if when == "in start" else "pass"
    leaving(plugins, f"import locale, socket\n{start}", MORE.replace("{start}", f"import locale, socket; {change}"))
    if when == "at import":
        with open(plugins.path("leaver"), "a", encoding="utf-8") as file:
            file.write(f"import locale, os, socket\n{change}\n")
    with plugins.kernel("thread") as kernel:
        if when == "in a method":
            kernel.call("leaver.go")
        left = kernel.unload("leaver")
        plugins.healthy("next")
        kernel.load(plugins.path("next"))
        assert kernel.unload("next") == []
    assert [line.partition(" of module ")[0] for line in left[:1]] != []
    assert left[0].startswith(CHANGED[change].format(**process_state))
    assert "a secret" not in left[0]


def test_changes_made_while_no_plugin_runs_are_not_reported(plugins: Plugins, process_state: dict[str, object]) -> None:
    plugins.healthy("leaver")
    os.environ["MK_LEFT"] = "1"
    logging.getLogger("theirs").setLevel(7)
    with plugins.kernel("thread") as kernel:
        assert kernel.unload("leaver") == []


# Log handlers

ADDERS = {
    "logging.getLogger().addHandler(logging.StreamHandler(shared_things.BOX))": ("StreamHandler", "root"),
    "logging.getLogger('theirs').addHandler(logging.NullHandler())": ("NullHandler", "theirs"),
    "logging.basicConfig(stream=shared_things.BOX, force=True)": ("StreamHandler", "root"),
    "logging.getLogger(__name__).addHandler(logging.StreamHandler(shared_things.BOX))": None,
    "logging.getLogger(__name__ + '.more').addHandler(logging.StreamHandler(shared_things.BOX))": None,
}


@pytest.fixture
def loggers() -> Iterator[list[logging.Handler]]:
    """The handlers of the root logger; a test clears them, because the test runner has some there."""
    root = logging.getLogger()
    yield root.handlers
    root.handlers.clear()
    root.setLevel(logging.WARNING)


def test_the_plugins_own_log_is_not_reported(plugins: Plugins, shared: ModuleType) -> None:
    """``api.log`` has a handler of ours, created when the plugin first uses it."""
    leaving(plugins, "self.api.log.info('x')")
    with plugins.kernel("thread") as kernel:
        assert kernel.reload("leaver").leaked == []
        assert kernel.unload("leaver") == []


@pytest.mark.parametrize("when", ["at import", "in start"])
@pytest.mark.parametrize("add", ADDERS)
def test_log_handlers_that_a_plugin_added_are_removed(
    plugins: Plugins, shared: ModuleType, loggers: list[logging.Handler], add: str, when: str
) -> None:
    loggers.clear()
    lines: list[str] = []
    shared.Box.write = lambda self, text: lines.append(text)
    shared.Box.flush = lambda self: None
    log = """
    @expose
    def log(self): logging.getLogger(__name__ + ".more").warning("a line"); logging.getLogger("theirs").warning("x")
"""
    at_import = f"\n{add}\n" if when == "at import" else ""
    leaving(plugins, add if when == "in start" else "pass", log + at_import)
    with plugins.kernel("thread") as kernel:
        for _ in range(3):
            kernel.reload("leaver")
        kernel.call("leaver.log")
        assert lines.count("a line\n") + lines.count("WARNING:mkplugin.leaver.more:a line\n") == (
            0 if "theirs" in add else 1
        )
        kernel.unload("leaver")
    assert loggers == []
    assert logging.getLogger("theirs").handlers == []


def test_handlers_that_others_change_meanwhile_are_left_alone(plugins: Plugins, loggers: list[logging.Handler]) -> None:
    plugins.healthy("leaver")
    loggers.clear()
    theirs = logging.NullHandler()
    real = logging.Logger.addHandler
    with plugins.kernel("thread") as kernel:
        logging.getLogger().addHandler(theirs)
        logging.getLogger().setLevel(logging.ERROR)
        assert kernel.reload("leaver").leaked == []
        assert loggers == [theirs]
        logging.getLogger().removeHandler(theirs)
        assert kernel.unload("leaver") == []
    assert logging.Logger.addHandler is real or logging.Logger.addHandler.__module__ == "logging"


def test_a_removed_handler_of_others_is_reported(
    plugins: Plugins, shared: ModuleType, loggers: list[logging.Handler]
) -> None:
    loggers[:] = [kept := logging.NullHandler()]
    leaving(plugins, "logging.getLogger().removeHandler(logging.getLogger().handlers[0])")
    left, undone = unload(plugins)
    assert (left, undone) == (["logger 'root': its handler NullHandler was removed"], [])
    assert kept not in loggers


def test_a_log_file_that_a_plugin_opened_is_closed(plugins: Plugins, shared: ModuleType, tmp_path: Path) -> None:
    leaving(plugins, f"logging.getLogger('theirs').addHandler(logging.FileHandler({str(tmp_path / 'log')!r}))")
    assert unload(plugins) == ([], ["log handler FileHandler at logger 'theirs'"])
    assert not [link for link in descriptors().values() if link.startswith(str(tmp_path))]
