"""Bad input gives one clear message, on that plugin alone; its neighbour in the same folder works."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import CallFailed, NotPlainData, PayloadTooLarge, PluginLoadError, PluginNotActive
from tests.security.attacks.support import Plugins, eventually, manifest, state_is

BOTH = pytest.mark.parametrize("level", ["thread", "process"])
SHORT = {"load": 0.5, "start": 0.5, "drain": 0.1, "stop": 0.5, "kill_grace": 0.5, "handler": 0.5}
ONCE = {"intensity": 1, "backoff": 0.01, "backoff_max": 0.02}


def messages(caplog: pytest.LogCaptureFixture, plugin: str, least: int = logging.ERROR) -> list[str]:
    """What the kernel said of a plugin: ids, in order."""
    own = [r for r in caplog.records if r.name == "microkernel" and getattr(r, "mk_plugin", "") == plugin]
    return [r.mk_id for r in own if r.levelno >= least]  # type: ignore[attr-defined]


def works(kernel: Kernel, name: str = "healthy") -> None:
    """Its calls are answered and its events are handled."""
    assert kernel.call(f"{name}.answer", number=1) == 2
    before = len(kernel.call(f"{name}.topics"))
    kernel.emit("attack.sign")
    eventually(lambda: len(kernel.call(f"{name}.topics")) > before, f"{name} handles an event")


# Python 3.12 quotes the name of the method.
NO_START = "Plugin(api) raised TypeError: Can't instantiate abstract class Plugin with"

REFUSED = {
    "empty": (b"", "MK0105", "no class Plugin"),
    "no_class": (b"class Plugins: pass\n", "MK0105", "no class Plugin"),
    "no_base": (b"class Plugin:\n    pass\n", "MK0106", "write: class Plugin(IPlugin)"),
    "other_base": (b"class Base: pass\nclass Plugin(Base): pass\n", "MK0106", "write: class Plugin(IPlugin)"),
    "not_a_class": (b"Plugin = 3\n", "MK0106", "write: class Plugin(IPlugin)"),
    "abstract": (b"from microkernel import IPlugin\nclass Plugin(IPlugin): pass\n", "MK0113", NO_START),
    "syntax": (b"class Plugin(IPlugin)\n    pass\n", "MK0103", ":1: invalid syntax"),
    "not_utf8": ("class Plugin: pass  # Grüße\n".encode("latin-1"), "MK0104", "byte 24"),
    "binary": (b"\x7fELF" + bytes(range(256)) * 64, "MK0104", "not UTF-8"),
    "null_bytes": (b"x = 1\nclass Plugin:\0 pass\n", "MK0103", ":2:"),
    "deep": (b"(" * 200_000, "MK0141", ":1:"),
    "many_elifs": (b"if 0: pass\n" + b"elif 0: pass\n" * 20_000, "MK0103", ""),
    "unknown_key": (manifest(isolaton="thread").encode(), "MK0109", "did you mean 'isolation'"),
    "unknown_limit": (manifest(limits={"handlr": 1}).encode(), "MK0109", "did you mean 'limits.handler'"),
    "wrong_type": (manifest(concurrency="many").encode(), "MK0110", "concurrency"),
    "wrong_value": (manifest(isolation="jail").encode(), "MK0110", "isolation"),
    "bad_toml": (b"# /// script\n# [tool.microkernel\n# ///\n", "MK0111", "not valid TOML"),
    "open_block": (b"# /// script\n# [tool.microkernel]\nx = 1\n", "MK0111", "# ///"),
    "huge_manifest": (manifest(nonsense="x" * 10_000_000).encode(), "MK0139", "10,000,056 bytes"),
    "missing_requirement": (manifest(requires=["nobody>=1"]).encode(), "MK0114", "nobody>=1"),
    "missing_package": (b"# /// script\n# dependencies = ['no-such']\n# ///\nclass Plugin(X): 0", "MK0117", "no-such"),
    "missing_import": (b"import no_such_module\nclass Plugin(X): pass\n", "MK0112", "no_such_module"),
    "peer_import": (b"import healthy\nclass Plugin(X): pass\n", "MK0118", "api.call"),
}  # fmt: skip


def test_invalid_plugin_fails_with_one_error(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    for case, (content, _, _) in REFUSED.items():
        plugins.raw(f"bad_{case}", content)
    plugins.healthy()
    with plugins.kernel() as kernel:
        for case, (_, id, words) in REFUSED.items():
            info = kernel.info(f"bad_{case}")
            assert (info.state, info.error_id) == ("failed", id), info.error
            assert words in (info.error or "")
            assert "\n" not in (info.error or "")
            assert messages(caplog, info.name) == [id]
        works(kernel)


def test_long_valid_manifest_is_accepted(plugins: Plugins) -> None:
    plugins.healthy("big", description="x" * 4_000, config={f"text{n}": "x" * 4_000 for n in range(10)})
    with plugins.kernel() as kernel:
        works(kernel, "big")


def test_sources_longer_than_any_payload(plugins: Plugins) -> None:
    """Of 20 modules, none of which is too long."""
    path = plugins.healthy("big")
    (folder := path.with_suffix("")).mkdir()
    path.rename(folder / "__init__.py")
    for number in range(20):
        (folder / f"m{number}.py").write_text("#" + "x" * (1 << 20) + "\n")
    with plugins.kernel() as kernel:
        works(kernel, "big")


@pytest.mark.parametrize("kind", ["link", "fifo", "loop"])
def test_link_loop_or_fifo_as_a_plugin_is_refused(
    plugins: Plugins, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    plugins.healthy()
    if kind == "link":
        plugins.path("bad").symlink_to("/nowhere/at/all")
    elif kind == "loop":
        plugins.path("bad").symlink_to(plugins.path("bad"))
    else:
        os.mkfifo(plugins.path("bad"))
    with plugins.kernel() as kernel:
        assert kernel.info("bad").error_id == "MK0102"
        assert messages(caplog, "bad") == ["MK0102"]
        works(kernel)


def test_plugin_folder_that_is_a_broken_link_is_reported(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    plugins.healthy()
    (plugins.folder / "bad").symlink_to("/nowhere/at/all")
    with plugins.kernel() as kernel:
        assert "the link leads nowhere" in (kernel.info("bad").error or "")
        assert messages(caplog, "bad") == ["MK0102"]
        works(kernel)


def test_plugins_path_that_is_a_broken_link_is_reported(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    plugins.healthy()
    place = plugins.folder.parent / "elsewhere"
    place.symlink_to("/nowhere/at/all")
    with Kernel([place, plugins.folder], isolation="process") as kernel:
        assert messages(caplog, "elsewhere") == ["MK0102"]
        works(kernel)


def test_second_plugin_of_a_name_is_refused(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    plugins.healthy()
    plugins.healthy("second", name="healthy")
    with plugins.kernel() as kernel:
        assert [info.name for info in kernel.list()] == ["healthy"]
        assert messages(caplog, "healthy") == ["MK0107"]
        works(kernel)


def test_cyclic_requirements_are_refused(plugins: Plugins, caplog: pytest.LogCaptureFixture) -> None:
    plugins.healthy()
    for name, other in ("aa", "bb"), ("bb", "cc"), ("cc", "aa"):
        plugins.healthy(name, requires=[other])
    plugins.healthy("dd", requires=["aa"])
    with plugins.kernel() as kernel:
        for name in "aa", "bb", "cc":
            assert kernel.info(name).error_id == "MK0116"
            assert "aa -> bb -> cc -> aa" in (kernel.info(name).error or "")
            assert messages(caplog, name) == ["MK0116"]
        assert messages(caplog, "dd") == ["MK0114"]
        works(kernel)


def test_file_removed_between_discovery_and_load_fails_the_plugin(
    plugins: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.add("aa", f"""
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): os.unlink({str(plugins.path("bad"))!r})
            def stop(self): pass
    """)  # fmt: skip
    plugins.healthy("bad", requires=["aa"])
    plugins.healthy()
    with plugins.kernel() as kernel:
        assert kernel.info("bad").error_id == "MK0101"
        assert messages(caplog, "bad") == ["MK0101"]
        works(kernel)


# Misbehaviour in each phase of the life

WAYS = {
    "raise": "raise KeyError('rates')",
    "exit": "sys.exit(3)",
    "_exit": "os._exit(3)",
    "spin": "while True: pass",
    "sleep": "time.sleep(1000)",
    "interrupt": "raise KeyboardInterrupt",
    "odd": "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})('\\udc80')",
    "half": "raise ValueError('\\udc80' * 10)",
}
PLACES = """
{top}
class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
        {init}
    def start(self):
        {start}
    def stop(self):
        {stop}
    @on("bad.handle")
    def handle(self):
        {handler}
    @expose
    def method(self):
        {method}
"""
ENDED = {  # of the phases before it is active: state, id
    "raise": ("failed", {"top": "MK0112", "init": "MK0113", "start": "MK0201"}),
    "odd": ("failed", {"top": "MK0112", "init": "MK0113", "start": "MK0201"}),
    "half": ("failed", {"top": "MK0112", "init": "MK0113", "start": "MK0201"}),
    "exit": ("quarantined", dict.fromkeys(("top", "init", "start"), "MK0205")),
    "_exit": ("quarantined", dict.fromkeys(("top", "init", "start"), "MK0205")),
    "interrupt": ("quarantined", dict.fromkeys(("top", "init", "start"), "MK0205")),
    "spin": ("failed", {"top": "MK0120", "init": "MK0120", "start": "MK0202"}),
    "sleep": ("failed", {"top": "MK0120", "init": "MK0120", "start": "MK0202"}),
}
ALL = [("process", way) for way in WAYS] + [("thread", way) for way in WAYS if way not in ("_exit", "sleep")]


def misbehaving(plugins: Plugins, place: str, way: str, name: str = "bad", load: float = 0.5) -> None:
    places = dict.fromkeys(("top", "init", "start", "stop", "handler", "method"), "pass") | {place: WAYS[way]}
    limits = SHORT | {"load": load} if way in ("spin", "sleep") else {}
    plugins.add(name, PLACES.format(**places), limits=limits, supervision=ONCE)


@BOTH
def test_misbehaviour_before_it_is_active(plugins: Plugins, caplog: pytest.LogCaptureFixture, level: str) -> None:
    """All at once, in one folder."""
    plugins.healthy()
    cases = {f"bad_{way}_{place}": (way, place) for at, way in ALL if at == level for place in ("top", "init", "start")}
    for name, (way, place) in cases.items():
        misbehaving(plugins, place, way, name, load=4.0)  # threads that spin leave the others little time to load
    with plugins.kernel(level) as kernel:
        for name, (way, place) in cases.items():
            state, ids = ENDED[way]
            info = kernel.info(name)
            assert (info.state, info.error_id) == (state, ids[place]), info
            assert messages(caplog, name) == [ids[place]]
        works(kernel)


@pytest.mark.parametrize(("level", "way"), ALL)
def test_misbehaviour_in_a_handler(plugins: Plugins, caplog: pytest.LogCaptureFixture, level: str, way: str) -> None:
    misbehaving(plugins, "handler", way)
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        kernel.emit("bad.handle")
        if way in ("raise", "odd", "half"):
            eventually(lambda: messages(caplog, "bad", logging.WARNING) == ["MK0611"], "it is told, once")
            assert kernel.info("bad").dead == 1
            assert (kernel.info("bad").state, kernel.info("bad").generation) == ("active", 1)
        else:
            info = state_is(kernel, "bad", "quarantined")
            assert info.error_id == "MK0205"
            eventually(lambda: len(kernel.dead_letters("bad")) == 1)
            assert messages(caplog, "bad").count("MK0205") == 1
        works(kernel)


@pytest.mark.parametrize(("level", "way"), ALL)
def test_misbehaviour_in_a_method(plugins: Plugins, level: str, way: str) -> None:
    misbehaving(plugins, "method", way)
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            kernel.call("bad.method", timeout=30)
        expected = "CallFailed" if way in ("raise", "odd", "half") else "PluginDied"
        assert type(caught.value).__name__ == expected
        if expected == "CallFailed":
            assert kernel.info("bad").generation == 1
        works(kernel)


@pytest.mark.parametrize(("level", "way"), ALL)
def test_misbehaviour_in_stop(plugins: Plugins, caplog: pytest.LogCaptureFixture, level: str, way: str) -> None:
    misbehaving(plugins, "stop", way)
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        assert kernel.stop("bad").state == "stopped"
        said = messages(caplog, "bad", logging.WARNING)
        if way in ("raise", "odd", "half"):
            assert said == ["MK0208"]
        elif way in ("spin", "sleep"):
            assert said == ["MK0209"]
        assert kernel.start("bad").state == "active"
        works(kernel)


# What it hands over


@BOTH
def test_a_handler_for_a_bad_pattern(plugins: Plugins, caplog: pytest.LogCaptureFixture, level: str) -> None:
    topics = ["a..b", "", "a b", ".a", "a.**.b", "ä", "a*", 3]
    for number, topic in enumerate(topics):
        plugins.add(f"bad{number}", f"""
            class Plugin(IPlugin):
                def __init__(self, api): api.on({topic!r}, print)
                def start(self): pass
                def stop(self): pass
        """)  # fmt: skip
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        for number in range(len(topics)):
            assert kernel.info(f"bad{number}").state == "failed"
            assert "MK0601" in (kernel.info(f"bad{number}").error or "")
            assert len(messages(caplog, f"bad{number}")) == 1
        works(kernel)


SENDER = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @expose
    def send(self, what: str, size: int = 0):
        big = b"x" * size
        tries = {
            "emit": lambda: self.api.emit("attack.x", data=big),
            "call": lambda: self.api.call("healthy.answer", number=big),
            "both": lambda: self.api.call("healthy.answer", big, number=big),
            "ask": lambda: self.api.ask("attack.x", timeout=1, data=big),
            "set": lambda: self.api.set_data("bad.x", big),
            "object": lambda: self.api.emit("attack.x", data={"deep": [1, object()]}),
            "loop": lambda: self.api.emit("attack.x", data=loop),
            "long": lambda: self.api.emit("attack.x", data=2**64),
            "half": lambda: self.api.emit("attack.x", data="\\udc80"),
        }
        loop = []; loop.append(loop)
        try:
            tries[what]()
        except Exception as error:
            return type(error).__name__, str(error)
        return "", ""
    @expose
    def give(self, size: int): return b"x" * size
    @expose
    def odd(self): return {"deep": [1, object()]}
"""
TOO_LARGE = (16 << 20) + 1
GIGABYTE = 1 << 30


@BOTH
@pytest.mark.parametrize(
    ("what", "path"), [("object", ".data.deep[1]"), ("loop", ""), ("long", ".data"), ("half", ".data")]
)
def test_values_that_are_not_plain_data_are_refused(plugins: Plugins, level: str, what: str, path: str) -> None:
    plugins.add("bad", SENDER)
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        kind, text = kernel.call("bad.send", what)
        assert kind == "NotPlainData"
        assert path in text
        with pytest.raises((NotPlainData, CallFailed), match=r"\.deep\[1\]"):
            kernel.call("bad.odd")
        with pytest.raises(NotPlainData):
            kernel.emit("attack.x", data=object())
        assert kernel.info("bad").generation == 1
        works(kernel)


@BOTH
@pytest.mark.parametrize(
    ("what", "size"),
    [("emit", TOO_LARGE), ("call", TOO_LARGE), ("ask", TOO_LARGE), ("set", TOO_LARGE), ("emit", GIGABYTE)],
)
def test_a_payload_over_the_limit(plugins: Plugins, level: str, what: str, size: int) -> None:
    plugins.add("bad", SENDER)
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        kind, text = kernel.call("bad.send", what, size, timeout=30)
        assert kind == "PayloadTooLarge"
        assert "16,777,216" in text
        assert [kernel.info(name).generation for name in ("bad", "healthy")] == [1, 1]
        works(kernel)


@BOTH
def test_an_answer_over_the_limit_and_arguments_over_it_together(plugins: Plugins, level: str) -> None:
    plugins.add("bad", SENDER)
    plugins.healthy()
    half = 10 << 20
    with plugins.kernel(level) as kernel:
        with pytest.raises((PayloadTooLarge, CallFailed), match="16,777,216"):
            kernel.call("bad.give", GIGABYTE, timeout=30)
        with pytest.raises(PayloadTooLarge):
            kernel.call("bad.send", b"x" * half, size=b"x" * half)
        assert kernel.call("bad.send", "both", half)[0] == "PayloadTooLarge"
        with pytest.raises(PayloadTooLarge):
            kernel.emit("attack.x", data=bytearray(GIGABYTE))
        assert [kernel.info(name).generation for name in ("bad", "healthy")] == [1, 1]
        works(kernel)


@BOTH
def test_large_payloads_that_wait_together(plugins: Plugins, level: str) -> None:
    """Each is allowed; no frame of them may be over the limit of frames."""
    plugins.add("slow", """
        class Plugin(IPlugin):
            def __init__(self, api): self.sizes = []; self.go = threading.Event()
            def start(self): pass
            def stop(self): pass
            @on("first")
            def first(self, until: str):
                while not os.path.exists(until): time.sleep(0.01)
            @on("large")
            def large(self, data: bytes): self.sizes.append(len(data))
            @expose
            def take(self): return self.sizes
            @expose
            @on("wanted")
            def wanted(self): return b"x" * (10 << 20)
    """)  # fmt: skip
    plugins.add("asking", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def ask(self): return [len(reply.value) for reply in self.api.ask("wanted", timeout=20)]
            @expose
            def fetch(self): return len(self.api.call("slow.wanted", timeout=20))
            @on("wanted")
            def wanted(self): return b""
    """)  # fmt: skip
    gate = plugins.folder.parent / "go"
    with plugins.kernel(level) as kernel:
        kernel.emit("first", until=str(gate))
        for _ in range(5):
            kernel.emit("large", data=b"x" * (10 << 20))
        gate.touch()
        assert kernel.call("slow.take", timeout=30) == [10 << 20] * 5
        kernel.on("wanted", lambda: b"y" * (10 << 20))
        assert sum(len(reply.value) for reply in kernel.ask("wanted", timeout=20)) == 10 << 20
        assert sorted(kernel.call("asking.ask", timeout=30)) == [10 << 20] * 2
        assert kernel.call("asking.fetch", timeout=30) == 10 << 20
        full = b"x" * ((16 << 20) - 5)
        kernel.set_data("full.value", full)
        assert kernel.get_data("full.value") == full
        assert kernel.info("slow").generation == 1


# Descriptors and output


def test_a_plugin_that_closes_every_descriptor(plugins: Plugins) -> None:
    plugins.add("bad", """
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): pass
            def stop(self): pass
            @on("close")
            def close(self): os.closerange(0, 1000)
            @on("close.hang")
            def hang(self): os.closerange(0, 1000); time.sleep(1000)
            @on("become")
            def become(self): os.execvp("sleep", ["sleep", "1000"])
            @expose
            def pid(self): return os.getpid()
    """, supervision={"backoff": 0.01, "backoff_max": 0.02})  # fmt: skip
    plugins.healthy()
    with plugins.kernel() as kernel:
        for topic in "close", "close.hang", "become":
            try:
                pid = kernel.call("bad.pid")
            except PluginNotActive:  # quarantined by the last of the deaths before
                kernel.start("bad", reset=True)
                pid = kernel.call("bad.pid")
            generation = kernel.info("bad").generation
            kernel.emit(topic)
            eventually(lambda g=generation: kernel.info("bad").generation > g, f"{topic} is a death")
            eventually(lambda p=pid: not Path(f"/proc/{p}").exists(), f"{topic}: its process ends")
            works(kernel)
            while (left := kernel.info("bad")).waiting or left.state != "active":
                eventually(lambda: kernel.info("bad").state in ("active", "quarantined"))
                if kernel.info("bad").state == "quarantined":
                    kernel.start("bad", reset=True)


def test_a_plugin_that_writes_into_every_descriptor(plugins: Plugins) -> None:
    plugins.add("bad", """
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): pass
            def stop(self): pass
            @on("garble")
            def garble(self):
                for fd in map(int, os.listdir("/proc/self/fd")):
                    try: os.write(fd, os.urandom(1000))
                    except OSError: pass
    """, supervision={"backoff": 0.01, "backoff_max": 0.02})  # fmt: skip
    plugins.healthy()
    with plugins.kernel() as kernel:
        kernel.emit("garble")
        letter = eventually(lambda: kernel.dead_letters("bad"))[0]
        assert "died each time it handled the event" in letter["reason"]
        state_is(kernel, "bad", "active")
        assert kernel.info("bad").restarts == 3
        works(kernel)


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("how", ["lines", "one_line", "bytes", "children"])
def test_output_without_end(plugins: Plugins, how: str) -> None:
    ways = {
        "lines": "while True: print('x' * 100)",
        "one_line": "while True: sys.stdout.write('x' * 65536); sys.stdout.flush()",
        "bytes": "while True: os.write(2, os.urandom(65536))",
        "children": "subprocess.run(['yes'])",
    }
    plugins.add("bad", f"""
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): pass
            def stop(self): pass
            @on("print")
            def print(self):
                {ways[how]}
    """)  # fmt: skip
    plugins.healthy()
    with plugins.kernel() as kernel:
        kernel.emit("print")
        eventually(lambda: len(kernel.core.registry.get("bad").logs) > 100, "it prints")
        before = memory()
        for _ in range(20):
            works(kernel)
            eventually(lambda: len(kernel.core.plugins.logs("bad", 1)) == 1)
        assert memory() - before < 100 << 20
        assert all(len(line.text) <= 64 << 10 for line in kernel.core.plugins.logs("bad", 2000))
        kernel.kill("bad")
        assert kernel.info("bad").state == "stopped"
        works(kernel)


@BOTH
def test_a_log_line_of_a_hundred_megabytes(plugins: Plugins, level: str) -> None:
    plugins.add("bad", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def log(self):
                self.api.log.warning("x" * (100 << 20))
                self.api.log.warning("half \\udc80")
                self.api.say.warn("x" * (100 << 20))
                self.api.say.warn("{a:>1000000000} {a.__class__} { {} {b", a=1)
                self.api.say.warn("{a} is filled in", a=1)
    """)  # fmt: skip
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        kernel.call("bad.log", timeout=30)
        texts = eventually(
            lambda: t if len(t := [line.text for line in kernel.core.plugins.logs("bad")]) == 5 else None
        )
        assert all(len(text) < 100_000 for text in texts)
        assert texts[3] == "{a:>1000000000} {a.__class__} { {} {b"
        assert texts[4] == "1 is filled in"
        assert kernel.info("bad").generation == 1
        works(kernel)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "full"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@BOTH
@pytest.mark.parametrize("made_before", [True, False])
def test_full_disk_under_the_data_folder_fails_only_that_plugin(
    plugins: Plugins, full_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    level: str, made_before: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(full_disk))
    if made_before:
        (full_disk / "microkernel" / "plugins" / "bad").mkdir(parents=True)
    with pytest.raises(OSError, match="No space"):
        (full_disk / "fill").write_bytes(b"x" * (1 << 20))
    plugins.add("bad", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): (self.api.data_dir / "state").write_bytes(b"x" * 10000)
            def stop(self): pass
    """)  # fmt: skip
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        info = kernel.info("bad")
        assert info.state == "failed"
        assert "No space left on device" in (info.error or "")
        assert messages(caplog, "bad") == ["MK0201"]
        works(kernel)
        (full_disk / "fill").unlink()
        assert kernel.start("bad").state == "active"


# Surroundings that are none of the plugin's business


def test_an_environment_that_is_not_utf8_or_very_long(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("looking", """
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): pass
            def stop(self): pass
            @expose
            def environ(self): return [os.environb[b"ODD"], len(os.environ["LONG0"]) + len(os.environ["LONG3"])]
    """)  # fmt: skip
    monkeypatch.setitem(os.environb, b"ODD", b"\xff\xfe")
    for i in range(4):
        monkeypatch.setenv(f"LONG{i}", "x" * 100_000)
    with plugins.kernel() as kernel:
        assert kernel.call("looking.environ") == [b"\xff\xfe", 200_000]


def test_limits_and_timers_of_centuries(plugins: Plugins) -> None:
    for level in "thread", "process":
        plugins.add(f"long-{level}", """
            class Plugin(IPlugin):
                def __init__(self, api):
                    self.api = api
                    api.after(30 * 86400, print)
                    api.every(1e10, print)
                def start(self): pass
                def stop(self): pass
                @expose
                def answer(self): return self.api.generation
                @expose
                def wait(self, until: str): return self.api.call(until, timeout=float("inf"))
        """, limits=dict.fromkeys(("handler", "load", "start", "stop"), 1e12))  # fmt: skip
        with Kernel(plugins.path(f"long-{level}"), isolation=level) as kernel:  # type: ignore[arg-type]
            assert kernel.ask("nobody", timeout=1e9) == []
            assert kernel.call(f"long-{level}.answer", timeout=float("inf")) == 1
            kernel.load(str(plugins.healthy()))
            assert kernel.call(f"long-{level}.wait", "healthy.answer", timeout=1e12) == 42
            assert kernel.call(f"long-{level}.answer", timeout=1e9) == 1
            plugins.path("healthy").unlink()


@BOTH
def test_timer_with_an_interval_of_zero_is_refused(plugins: Plugins, level: str) -> None:
    plugins.add("bad", """
        class Plugin(IPlugin):
            def __init__(self, api): api.every(0, print)
            def start(self): pass
            def stop(self): pass
    """)  # fmt: skip
    with plugins.kernel(level) as kernel:
        assert kernel.info("bad").error_id == "MK0113"
        assert "more than 0 seconds" in (kernel.info("bad").error or "")


def test_load_raises_the_error_of_a_bad_plugin(plugins: Plugins) -> None:
    plugins.healthy()
    outside = plugins.folder.parent / "broken.py"
    outside.write_text("class Plugin(\n")
    with plugins.kernel() as kernel:
        with pytest.raises(PluginLoadError, match="MK0103"):
            kernel.load(outside)
        with pytest.raises(PluginLoadError, match="MK0101"):
            kernel.load(outside.parent / "nothing.py")
        works(kernel)
