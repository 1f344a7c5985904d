"""One run of the demo: its plugins, the faults, the output, and the comparison with a plain loop."""

from __future__ import annotations

import argparse
import platform
import shutil
import signal
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from plain import KINDS, plain_count, python_files
from screen import Screen
from texts import Texts

from microkernel import Kernel, KernelConfig
from microkernel.errors import IsolationUnavailable, ReloadFailed
from microkernel.hosts.wasm.image import STEPS, Image
from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import Level, Permissions
from microkernel.messages import Catalog, language, translate

PLUGINS = Path(__file__).parent / "plugins"
# Seconds without a newly counted file after which the demo gives up.
PATIENCE = 20.0
SAID_ELSEWHERE = {
    "MK0221",  # redelivered: shown in the line of the new generation
    "MK0613", "MK0618",  # dead letters of the plugin that the demo kills
    "MK0219",  # stopped, at the end
}  # fmt: skip


class Demo:
    """One run. Messages of the kernel and of the demo are events on one thread, so they appear in order."""

    def __init__(
        self, kernel: Kernel, plugins: Path, files: int, screen: Screen, texts: Texts, catalog: Catalog
    ) -> None:
        self.kernel = kernel
        self.plugins = plugins
        self.files = files
        self.screen = screen
        self.texts = texts
        self.catalog = catalog
        self.again: dict[str, int] = {}
        self.over = False
        kernel.on("kernel.message", self.hear)
        kernel.on("demo.says", lambda level, who, text: screen.line(level, who, text))

    # Output

    def hear(self, id: str, level: str, plugin: str, fields: dict[str, Any]) -> None:
        """Show a message of the kernel."""
        if id == "MK0221":
            self.again[plugin] = fields["count"]
        if self.over or id in SAID_ELSEWHERE:
            return
        text = self.catalog.text(id, fields)
        if id == "MK0218" and (count := self.again.pop(plugin, 0)):
            text += self.texts("again", count=count)
        self.screen.line(level, plugin, f"{id}  {text}" if level in ("warn", "error") else text)

    def say(self, level: str, who: str, key: str, **fields: object) -> None:
        self.kernel.emit("demo.says", level=level, who=who, text=self.texts(key, **fields))

    def show_plugins(self) -> None:
        for info in self.kernel.list():
            place = f"pid {info.pid}" if info.pid else ""
            self.screen.line("success", info.name, f"{info.version:<5}{info.isolation:<9}{place}")

    # Faults

    def run(self) -> dict[str, Any]:
        """Have all files counted while the faults happen. Return the progress of the aggregator."""
        acts = [(0.10, self.kill_and_start), (0.25, self.reload_broken), (0.30, self.reload_changed)]
        self.kernel.call("walker.walk", timeout=30.0)
        for counted in self.watch():
            while acts and counted >= acts[0][0] * self.files:
                acts.pop(0)[1]()
        return dict(self.kernel.call("aggregator.progress"))

    def watch(self) -> Iterator[int]:
        """Yield the number of counted files until all are counted or none was for ``PATIENCE`` seconds."""
        counted, changed = -1, time.monotonic()
        while counted < self.files:
            now = self.kernel.call("aggregator.progress")["counted"]
            if now > counted:
                counted, changed = now, time.monotonic()
                self.screen.progress(counted, self.files, self.texts("files", done=counted, total=self.files))
            elif time.monotonic() - changed > PATIENCE:
                self.say("error", "demo", "stuck", seconds=PATIENCE)
                return
            yield counted
            time.sleep(0.05)

    def kill_and_start(self) -> None:
        """Kill a plugin. Its waiting events become dead letters; replay them."""
        self.say("direct", "parser_b", "kill", count=self.kernel.info("parser_b").waiting)
        self.kernel.kill("parser_b")
        self.kernel.start("parser_b")
        letters = self.kernel.dead_letters("parser_b")
        self.say("direct", "parser_b", "replay", count=len(letters))
        for letter in letters:
            self.kernel.replay(letter["id"])

    def reload_broken(self) -> None:
        """Reload broken source. The old source continues, and the kernel reports why."""
        source = self.plugins / "parser_a.py"
        before = source.read_text(encoding="utf-8")
        self.say("direct", "parser_a", "break", count=self.kernel.info("parser_a").waiting)
        source.write_text(before.replace("def start(self) -> None:", "def start(self) -> None"), encoding="utf-8")
        try:
            self.kernel.reload("parser_a")
        except ReloadFailed:
            source.write_text(before, encoding="utf-8")

    def reload_changed(self) -> None:
        """Reload changed source. Version 1.1 gets the messages that wait for 1.0."""
        source = self.plugins / "parser_a.py"
        text = source.read_text(encoding="utf-8").replace('version = "1.0"', 'version = "1.1"')
        todos = '    "todos": re.compile(rb"#.*\\bTODO\\b"),\n'
        text = text.replace(todos, todos + todos.replace("todos", "fixmes").replace("TODO", "FIXME"))
        self.say("direct", "parser_a", "change")
        source.write_text(text, encoding="utf-8")
        self.kernel.reload("parser_a")

    def end_all(self) -> None:
        """Kill all plugins without showing messages."""
        self.over = True
        for info in self.kernel.list():
            self.kernel.kill(info.name)


def main() -> int:
    options = arguments()
    chosen = language()
    screen, texts = Screen(), Texts(chosen)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        files = python_files()[: 200 if options.quick else None]
        screen.plain(texts("title", version=platform.python_version(), files=len(files)), "bold")
        catalog = Catalog.load(chosen)
        level = prepare(screen, texts, catalog)
        totals, missing, deaths = index(options, level, len(files), screen, texts, catalog)
        equal = compare(totals, missing, files, screen, texts)
        if equal:
            screen.line("success", "demo", texts("equal", deaths=deaths))
            try_next(options.seed, screen, texts)
    except KeyboardInterrupt:
        screen.end()
        screen.line("notice", "demo", texts("interrupted"))
        return 130
    return 0 if equal else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run demo", description="Index the standard library with plugins.")
    parser.add_argument("--seed", type=int, default=0, help="other crashes, at other files")
    parser.add_argument("--quick", action="store_true", help="200 files instead of all")
    return parser.parse_args()


def interrupt(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt once. The cleanup that follows must not be interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def prepare(screen: Screen, texts: Texts, catalog: Catalog) -> Level:
    """Build the guest if necessary, as `mk wasm prepare` does. Return the level of parser_b."""
    image = Image()
    try:
        if not image.is_built():
            build(image, screen, texts)
        image.ensure()
    except IsolationUnavailable as error:
        screen.line("notice", "parser_b", texts("no_wasm", reason=f"{error.id}  {translate(error, catalog)}"))
        return "process"
    return "wasm"


def build(image: Image, screen: Screen, texts: Texts) -> None:
    screen.line("direct", "wasm", texts("build"))
    began = time.monotonic()
    screen.begin("wasm", len(STEPS))
    try:
        image.ensure(lambda step: screen.progress(STEPS.index(step) if step in STEPS else 0, len(STEPS), texts(step)))
    finally:
        screen.end()
    screen.line("success", "wasm", texts("built", seconds=time.monotonic() - began))


def index(
    options: argparse.Namespace, level: Level, files: int, screen: Screen, texts: Texts, catalog: Catalog
) -> tuple[dict[str, int], list[str], int]:
    """Count with plugins. Return the totals, the missing files and the number of crashes."""
    with TemporaryDirectory(prefix="mk-demo-") as folder:
        plugins = Path(folder) / "plugins"  # a copy, which may be changed
        shutil.copytree(PLUGINS, plugins, ignore=shutil.ignore_patterns("__pycache__"))
        config = configuration(folder, options, level, files)
        with Kernel(plugins, config=config) as kernel:
            demo = Demo(kernel, plugins, files, screen, texts, catalog)
            demo.show_plugins()
            began = time.monotonic()
            screen.begin(texts("counting"), files)
            try:
                known = demo.run()
            except BaseException:
                demo.end_all()
                raise
            finally:
                screen.end()
            took = time.monotonic() - began
            deaths = {info.name: info.restarts for info in kernel.list()}
            totals = kernel.call("aggregator.totals")
            missing = kernel.call("aggregator.missing")
    summary(known, deaths, files, took, screen, texts)
    return totals, missing, sum(deaths.values())


def configuration(folder: str, options: argparse.Namespace, level: Level, files: int) -> KernelConfig:
    """Return the operator's configuration: two trusted plugins run in the kernel's process, an untrusted one may only
    read the library, and two learn when to misbehave."""
    within = max(2, files // 32)  # within the quarter of the files that each gets, so that every crash happens
    trouble: dict[str, Any] = {"seed": options.seed, "within": within}
    limit = {"limit": files} if options.quick else {}
    return KernelConfig(
        data_dir=str(Path(folder) / "data"),
        plugin={
            "walker": PluginConfig(isolation="thread", config={"at_once": False, **limit}),
            "aggregator": PluginConfig(isolation="thread"),
            "parser_b": PluginConfig(
                isolation=level,
                permissions=Permissions(
                    emit=("file.counted", "file.found.a"), on=("file.found.b",), fs_read=(sysconfig.get_path("stdlib"),)
                ),
            ),
            "runaway": PluginConfig(config={**trouble, "hangs": 1 if options.quick else 2}),
            "crasher": PluginConfig(config=trouble),
        },
    )


def summary(
    known: dict[str, Any], deaths: dict[str, int], files: int, took: float, screen: Screen, texts: Texts
) -> None:
    for who, count in sorted(known["shares"].items()):
        died = deaths.get(who.split()[0], 0)
        screen.line("direct", who, texts("deaths" if died else "share", count=count, deaths=died))
    level = "success" if known["counted"] == files else "error"
    screen.line(level, "demo", texts("indexed", count=known["counted"], total=files, seconds=took))
    if known["again"]:
        screen.line("direct", "demo", texts("twice", count=known["again"]))


def compare(totals: dict[str, int], missing: list[str], files: list[str], screen: Screen, texts: Texts) -> bool:
    """Count in a plain loop, show both, and return whether they are equal."""
    screen.line("direct", "demo", texts("check"))
    expected = timed_plain_count(files, screen, texts)
    head = ["", texts("by_plugins"), texts("plainly"), ""]
    rows = [
        [texts("kind_files" if kind == "files" else kind), f"{totals.get(kind, 0):,}", f"{expected[kind]:,}",
         "=" if totals.get(kind, 0) == expected[kind] else "≠"]
        for kind in KINDS
    ]  # fmt: skip
    screen.plain()
    screen.table(head, rows)
    screen.plain()
    for path in missing[:5]:
        screen.line("error", "demo", texts("missing", path=path))
    equal = not missing and all(totals.get(kind, 0) == expected[kind] for kind in KINDS)
    if not equal:
        screen.line("error", "demo", texts("different"))
    return equal


def timed_plain_count(files: list[str], screen: Screen, texts: Texts) -> dict[str, int]:
    began, done = time.monotonic(), 0

    def tick() -> None:
        nonlocal done
        done += 1
        screen.progress(done, len(files), texts("files", done=done, total=len(files)))

    screen.begin(texts("plainly"), len(files))
    try:
        expected = plain_count(files, tick)
    finally:
        screen.end()
    screen.line("direct", "demo", texts("checked", seconds=time.monotonic() - began))
    return expected


def try_next(seed: int, screen: Screen, texts: Texts) -> None:
    screen.plain()
    screen.plain(texts("next"), "bold")
    for command, why in (
        (f"./run demo --seed {seed + 1}", "next_seed"),
        ("./run mk run examples/stdlib_index/plugins", "next_run"),
        ("./run mk run examples/hello", "next_hello"),
        ("./run mk explain MK0204", "next_explain"),
    ):
        screen.plain(f"  {command:<46}{texts(why)}")
