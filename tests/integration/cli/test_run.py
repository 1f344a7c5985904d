"""`mk run`: its output while it starts, runs and ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.cli.run import GRANT, WATCHER, not_stopped
from microkernel.cli.shutdown import SAME
from microkernel.kernel.config import PluginConfig

from .conftest import GREETER, Home, Start

PLUGIN = "from microkernel import IPlugin\nclass Plugin(IPlugin):\n"


def header(line: str) -> str:
    return f"# /// script\n# [tool.microkernel]\n# {line}\n# ///\n"


BROKEN = {
    "no_class.py": ("x = 1\n", "MK0105", r"plugins/no_class\.py: no class Plugin"),
    "no_plugin.py": ("class Plugin: ...\n", "MK0106", r"class Plugin\(IPlugin\)"),
    "syntax.py": ("class Plugin(:\n", "MK0103", r"plugins/syntax\.py:1"),
    "latin.py": ("# caf\udce9\n", "MK0104", r"byte 5"),
    "clash.py": (f"import greeter\n{PLUGIN}    ...\n", "MK0118", "api.call"),
    "typo.py": (header('versoin = "1"'), "MK0109", r"did you mean 'version'"),
    "kind.py": (header("concurrency = true"), "MK0110", "concurrency"),
    "alone.py": (header('requires = ["nobody>=2"]') + f"{PLUGIN}    ...\n", "MK0114", "nobody>=2"),
    "raises.py": (f"1 / 0\n{PLUGIN}    ...\n", "MK0112", r"ZeroDivisionError.*raises\.py:1"),
    "init.py": (f"{PLUGIN}    start = stop = None\n    def __init__(self, api): 1 / 0\n", "MK0113", r"init\.py:4"),
    "begin.py": (f"{PLUGIN}    stop = None\n    def start(self): 1 / 0\n", "MK0201", r"begin\.py:4"),
}


@pytest.mark.parametrize("level", ["thread", "process"])
def test_each_broken_plugin_gets_one_message_and_the_others_run(home: Home, start: Start, level: str) -> None:
    for name, (text, _, _) in BROKEN.items():
        (home.plugins / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    (home.plugins / "nowhere.py").symlink_to("/does/not/exist")
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", level)
    running.wait_for("✓ greeter")
    assert running.output[0] == f'microkernel 0.1.0 · kernel "home" · plugins found: {len(BROKEN) + 2} · mk help'
    for name, (_, id, reason) in [*BROKEN.items(), ("nowhere.py", ("", "MK0102", "leads nowhere"))]:
        stem = name.removesuffix(".py")
        running.wait_for(rf"^✗ {stem} ")
        lines = [line for line in running.output if re.match(rf"[✗!•] {stem} ", line)]
        assert len(lines) == 1, lines
        assert re.match(rf"✗ {stem} +— +{id}  .*{reason}", lines[0]), lines[0]
    assert "Traceback" not in running.text
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
    states = {info["name"]: info["state"] for info in home.json("ps")}
    assert states.pop("greeter") == "active"
    assert set(states.values()) == {"failed"}
    assert running.end() == 0
    assert "mkplugin" not in running.text


def test_the_first_line_is_chinese_on_a_chinese_terminal(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    home.write("report.py", "class Plugin:\n    def total(self)\n        pass\n")
    running = start("--headless", "--isolation", "thread", LANG="zh_CN.UTF-8")
    running.wait_for("✓ greeter")
    assert running.output[0] == "microkernel 0.1.0 · 内核“home” · 找到 2 个插件 · mk help"
    running.wait_for(r"^✗ report +— +MK0103  plugins/report\.py 第 2 行：语法错误")
    assert running.end() == 0
    assert "• greeter  已停止" in running.output


def test_the_language_of_the_configuration(home: Home, start: Start) -> None:
    (home.folder / "microkernel.toml").write_text('language = "zh"\nname = "mine"\nisolation = "thread"\n', "utf-8")
    start("plugins", "--headless").wait_for("内核“mine”")
    assert home.mk("ps").stdout == "没有插件\n"
    assert home.mk("ps", MK_LANG="en").stdout == "no plugins\n"


MISNAMED = """
[plugin.greter]
concurrency = 2
[plugin.off]
enabled = false
[group.g]
plugins = ["greeter", "nobody"]
"""


def test_configuration_of_a_missing_plugin_is_reported(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    home.write("off.py", GREETER)
    (home.folder / "microkernel.toml").write_text(MISNAMED, "utf-8")
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    assert [line for line in running.output if "MK0712" in line] == [
        "! greter   MK0712  configured in [plugin.greter] but not found; did you mean 'greeter'?",
        "! nobody   MK0712  configured in [group.g] but not found",
    ]


def test_paths_in_the_configuration_are_meant_from_its_folder(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    config = home.folder / "etc" / "microkernel.toml"
    config.parent.mkdir()
    levels = 'min_isolation = "thread"\nisolation = "thread"\n'
    config.write_text(f'plugins = ["../plugins"]\n{levels}data_dir = "data"\n', "utf-8")
    running = start("--headless", "--config", "etc/microkernel.toml")
    running.wait_for("✓ greeter  1.2 +thread")


@pytest.mark.parametrize(
    ("args", "toml", "id"),
    [
        (["nowhere/"], "", "MK0101"),
        ([], "isolaton = 'thread'\n", "MK0109"),
        ([], "isolation = [\n", "MK0111"),
        (["--config", "nothing.toml"], "", "MK0102"),
        (["--name", "a/b"], "", "MK0705"),
    ],
)
def test_errors_before_the_start(home: Home, args: list[str], toml: str, id: str) -> None:
    if toml:
        (home.folder / "microkernel.toml").write_text(toml, "utf-8")
    done = home.mk("run", "--headless", *args, code=2 if id == "MK0101" else 1)
    assert re.fullmatch(rf"✗ {id}  [^\n]+\n", done.stderr), done.stderr


def test_without_plugins_it_says_where_it_looked(home: Home) -> None:
    home.plugins.rmdir()
    said = "✗ MK0101  plugins: no such file or directory; to write a plugin: mk new NAME\n"
    assert home.mk("run", code=2).stderr == said


def test_a_second_kernel_is_refused_and_the_first_continues(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    first = start("--headless", "--isolation", "thread")
    first.wait_for("✓ greeter")
    done = home.mk("run", "--headless", code=1)
    assert "MK0702  a kernel is already running at" in done.stderr
    assert f"(pid {first.process.pid})" in done.stderr
    assert "✓ greeter" not in done.stdout
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
    home.run("--headless", "--isolation", "thread", "--name", "second").close()


def test_the_socket_of_a_dead_kernel_is_removed(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    first = start("--headless", "--isolation", "thread")
    first.wait_for("✓ greeter")
    first.end(signal.SIGKILL)
    path = home.runtime / "microkernel" / f"{home.folder.name}.sock"
    assert path.is_socket()
    assert "MK0701" in home.mk("ps", code=2).stderr
    second = start("--headless", "--isolation", "thread")
    second.wait_for("was left by a kernel that has ended; removed")
    second.wait_for("✓ greeter")
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
    assert second.end() == 0
    assert not path.exists()


def test_garbage_on_the_socket_does_not_affect_the_kernel(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    start("--headless", "--isolation", "thread").wait_for("✓ greeter")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home.runtime / "microkernel" / f"{home.folder.name}.sock"))
        connection.sendall(b"\x00" * 4096)
        connection.settimeout(10)
        assert b"MK0215" in connection.recv(4096)
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_cleanly(home: Home, start: Start, number: signal.Signals) -> None:
    home.write("greeter.py", GREETER.replace("def stop(self): pass", 'def stop(self): self.api.set_data("x.y", 1)'))
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    assert running.end(number) == 0
    assert running.output[-2:] == ["· stopping; once more to kill", "• greeter  stopped"]
    assert list((home.runtime / "microkernel").iterdir()) == []


def test_two_signals_at_once_are_one(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    assert running.end(signal.SIGTERM, signal.SIGINT) == 0
    assert running.output[-2:] == ["· stopping; once more to kill", "• greeter  stopped"]


def test_a_second_signal_kills_it(home: Home, start: Start) -> None:
    home.write("slow.py", GREETER.replace("def stop(self): pass", "def stop(self): __import__('time').sleep(60)"))
    home.write("broken.py", GREETER.replace("def start(self): ", "def start(self): 1 / 0; "))
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", "process")
    running.wait_for("✓ slow")
    running.wait_for("✗ broken")
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("greeter  stopped")
    time.sleep(SAME)
    assert running.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert "! killed; plugins that did not stop: 1" in running.output
    assert list((home.runtime / "microkernel").iterdir()) == []


CRAWL = """
# /// script
# [tool.microkernel]
# limits = {{ drain = {drain}, stop = 0.5, kill_grace = 0.5 }}
# ///
import time
from microkernel import IPlugin, on

class Plugin(IPlugin):
    def __init__(self, api): self.api, self.done = api, 0
    def start(self):
        for n in range(30): self.api.emit("step", n=n)
    def stop(self): print(f"done: {{self.done}}", flush=True)
    @on("step")
    def step(self, n: int):
        time.sleep({seconds})
        self.done += 1
"""


def test_waiting_events_are_handled_before_the_end(home: Home, start: Start) -> None:
    home.write("crawl.py", CRAWL.format(drain=60, seconds=0.01))
    running = start("--headless")
    running.wait_for("✓ crawl")
    assert running.end() == 0
    assert "done: 30" in running.text
    assert "not handled" not in running.text


def test_one_line_says_how_many_events_were_not_handled(home: Home, start: Start) -> None:
    home.write("crawl.py", CRAWL.format(drain=0, seconds=3600))
    running = start("--headless")
    running.wait_for("✓ crawl")
    assert running.end() == 0
    assert [line for line in running.output if "unhandled" in line] == ["! MK0226  unhandled events: 30"]


def test_a_second_signal_ends_a_drain(home: Home, start: Start) -> None:
    home.write("crawl.py", CRAWL.format(drain=3600, seconds=3600))
    running = start("--headless")
    running.wait_for("✓ crawl")
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("stopping")
    time.sleep(SAME)
    assert running.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_stop_now_skips_waiting_events(home: Home, start: Start) -> None:
    home.write("crawl.py", CRAWL.format(drain=3600, seconds=3600))
    running = start("--headless")
    running.wait_for("✓ crawl")
    assert home.mk("stop", "--now", "crawl").returncode == 0
    assert json.loads(home.mk("ps", "--json").stdout)[0]["state"] == "stopped"


def test_unstopped_plugins_are_running_plugins_of_the_operator(home: Home) -> None:
    home.write("greeter.py", GREETER)
    home.write("broken.py", GREETER.replace("def start(self): ", "def start(self): 1 / 0; "))
    watcher = PluginConfig(permissions=GRANT)
    config = KernelConfig(data_dir=str(home.folder), plugin={"watcher": watcher})
    with Kernel(str(home.plugins), config, isolation="thread") as kernel:
        kernel.core.plugins.load(WATCHER, built_in=True)
        assert not_stopped(kernel.core.registry) == ["greeter"]
        kernel.stop("greeter")
        assert not_stopped(kernel.core.registry) == []


def test_for_machines_each_line_is_an_object(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    running = start("--json", "--isolation", "thread")
    running.wait_for("MK0218")
    running.end()
    lines = [json.loads(line) for line in running.output]
    assert lines[0]["event"] == "kernel.found"
    assert [each["id"] for each in lines if each["event"] == "kernel.message"] == ["MK0218", "MK0219"]


def test_plugin_output_is_shown_and_cannot_control_the_terminal(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER.replace('"greeter is ready"', r'"ready\x1b[2J\nsecond line"'))
    home.write("loud.py", GREETER.replace("def start(self): ", 'def start(self): print("printed"); '))
    running = start("--headless", "--isolation", "process")
    running.wait_for(r"^\| loud +printed$")
    running.wait_for(r"^· greeter +ready\\x1b\[2J$")
    running.wait_for(r"^    second line$")


def test_every_plugin_may_hang_and_mk_still_answers(home: Home, start: Start) -> None:
    spin = GREETER.replace("while not self.api.cancelled: pass", "while True: pass").replace(
        'def start(self): self.api.log.info("greeter is ready")',
        "def start(self): self.api.spawn(self.api.call, self.api.name + '.hang')",
    )
    for name in ("one", "two"):
        home.write(f"{name}.py", spin)
    running = start("--headless", "--isolation", "process")
    running.wait_for("✓ one")
    running.wait_for("✓ two")
    assert [info["state"] for info in home.json("ps")] == ["active", "active"]
    for name in ("one", "two"):
        assert "killed in" in home.mk("kill", name).stdout
    assert running.end() == 0


def test_the_kernel_runs_with_a_full_state_folder(home: Home, start: Start, tmp_path: Path) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", "thread", XDG_STATE_HOME="/dev/null/nowhere")
    running.wait_for("✓ greeter")


def test_a_reload_reads_the_configuration_again(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    config = home.folder / "microkernel.toml"
    config.write_text("")
    running = start("--headless")
    running.wait_for("✓ greeter")
    config.write_text('[plugin.greeter]\nisolation = "thread"\n')
    home.mk("reload", "greeter")
    assert home.json("info", "greeter")["isolation"] == "thread"


def test_places_on_the_command_line_are_the_only_ones(home: Home, start: Start) -> None:
    for name in ("one", "two", "three"):
        home.write(f"{name}.py", GREETER)
    (home.folder / "microkernel.toml").write_text('plugins = ["plugins"]\n')
    running = start("plugins/one.py", "plugins/two.py", "--headless", "--isolation", "thread")
    running.wait_for("✓ two")
    assert [info["name"] for info in home.json("ps")] == ["one", "two"]
    assert home.json("call", "kernel.discover") == []
    assert [info["name"] for info in home.json("--kernel", "home", "ps")] == ["one", "two"]
    assert "MK0701" in home.mk("--kernel", "nowhere", "ps", code=2).stderr
    assert "one" in home.mk("--json", "ps").stdout
    running.end()
    assert "one" in running.text
    assert "three" not in running.text


def test_a_configuration_of_nothing_is_given_by_its_usual_name(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    (home.folder / "microkernel.toml").write_text('name = "other"\nplugins = ["nowhere"]\n')
    running = start("--headless", "--isolation", "thread", "--config", "/dev/null")
    running.wait_for("✓ greeter")
    home.mk("reload", "greeter")
    assert 'kernel "home"' in running.output[0]
