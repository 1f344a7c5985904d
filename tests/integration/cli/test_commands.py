"""Every command, as a separate process, against a running kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from importlib.util import find_spec

import pytest

from .conftest import GREETER, MK, PATIENCE, Home, Start


def test_ps(shared: Home) -> None:
    head, greeter = shared.mk("ps").stdout.splitlines()
    assert head.split() == [
        "plugin", "version", "level", "state", "up", "pid", "memory", "cpu", "events", "calls", "waiting", "restarts",
    ]  # fmt: skip
    assert re.fullmatch(r"greeter +1\.2 +thread +active +\d+ s +— +— +— +\d+ +\d+ +0 +0", greeter)


def test_ps_for_machines(shared: Home) -> None:
    (greeter,) = shared.json("ps")
    assert greeter["name"] == "greeter"
    assert (greeter["state"], greeter["isolation"], greeter["pid"]) == ("active", "thread", None)


def test_ps_in_chinese_is_aligned(shared: Home) -> None:
    from rich.cells import cell_len

    head, greeter = shared.mk("ps", LANG="zh_CN.UTF-8").stdout.splitlines()
    assert head.split()[:4] == ["插件", "版本", "级别", "状态"]
    column = cell_len(head[: head.index("状态")])
    assert cell_len(greeter[: greeter.index("活动" if "活动" in greeter else greeter.split()[3])]) == column


def test_info(shared: Home) -> None:
    text = shared.mk("info", "greeter").stdout
    assert text.startswith("greeter 1.2  thread  active\nGreets.\n")
    for part in ("add(a: int, b: int = 1)", "order.broken, order.created", "hard kill  watched"):
        assert part in text
    assert shared.json("info", "greeter")["methods"]["greet"].startswith("(who: str")


def test_call(shared: Home) -> None:
    assert shared.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
    assert shared.mk("call", "greeter.greet", "Ann").stdout == '"Hello, Ann!"\n'
    assert shared.mk("call", "greeter.add", "-5", "b=7").stdout == "2\n"
    assert shared.json("call", "greeter.add", "40", "2") == 42


@pytest.mark.parametrize(
    ("args", "id"),
    [
        (["greeter.add", "five"], "MK0605"),
        (["greeter.nothing"], "MK0604"),
        (["nobody.greet"], "MK0212"),
        (["greeter.hang", "--timeout", "0.2"], "MK0606"),
    ],
)
def test_a_call_that_fails(shared: Home, args: list[str], id: str) -> None:
    done = shared.mk("call", *args, code=1)
    assert (done.stdout, done.stderr[:9]) == ("", f"✗ {id} ")
    assert len(done.stderr.splitlines()) == 1


def test_a_call_without_a_method_says_how_a_target_is_written(shared: Home) -> None:
    done = shared.mk("call", "greeter", code=1)
    assert done.stderr == "✗ MK0604  no method greeter; a target is written plugin.method\n"


def test_a_call_that_raises_shows_their_lines_and_none_of_ours(shared: Home) -> None:
    done = shared.mk("call", "greeter.fail", code=1)
    first, *rest = done.stderr.splitlines()
    assert first == "✗ MK0608  greeter.fail raised ValueError: no such customer (greeter.py:32 in helper)"
    assert [line.strip() for line in rest[1::2]] == [
        "def fail(self) -> None: helper()", 'def helper(): raise ValueError("no such customer")',
    ]  # fmt: skip
    assert "src/microkernel" not in done.stderr


def test_an_exception_without_a_text_has_no_colon(shared: Home) -> None:
    english = shared.mk("call", "greeter.fail_silently", code=1).stderr
    assert english.startswith("✗ MK0608  greeter.fail_silently raised MemoryError (greeter.py:20 in fail_silently)\n")
    chinese = shared.mk("call", "greeter.fail", code=1, MK_LANG="zh").stderr
    assert "ValueError：no such customer" in chinese
    assert "：" not in shared.mk("call", "greeter.fail_silently", code=1, MK_LANG="zh").stderr.splitlines()[0]


def test_an_error_for_machines(shared: Home) -> None:
    done = shared.mk("call", "nobody.greet", "--json", code=1)
    assert json.loads(done.stdout)["error"]["id"] == "MK0212"
    assert done.stderr == ""


def test_emit_and_dead_letters(shared: Home) -> None:
    assert shared.mk("dead").stdout == "no dead letters\n"
    assert shared.mk("emit", "order.broken", "order_id=7").stdout == "✓ order.broken  emitted\n"
    (letter,) = _until(lambda: shared.json("dead"))
    assert (letter["topic"], letter["data"]) == ("order.broken", {"order_id": 7})
    assert "RuntimeError: broken" in shared.mk("dead").stdout
    number = str(letter["id"])
    assert '{"order_id": 7}' in shared.mk("dead", "show", number).stdout
    assert shared.mk("dead", "replay", number).stdout == f"✓ dead letter {number} is delivered again\n"
    (again,) = _until(lambda: [each for each in shared.json("dead", "list", "greeter") if each["id"] != letter["id"]])
    assert shared.mk("dead", "drop", str(again["id"])).stdout == f"✓ dead letter {again['id']} dropped\n"
    assert shared.json("dead") == []
    assert "MK0614" in shared.mk("dead", "show", number, code=1).stderr
    assert "MK0710" in shared.mk("dead", "bury", code=2).stderr


def test_dead_letters_of_one_kind_are_one_line_and_replayed_by_filter(shared: Home) -> None:
    for number in range(3):
        shared.mk("emit", "order.broken", f"order_id={number}")
    letters = _until(lambda: len(found := shared.json("dead")) == 3 and found)
    newest = str(letters[-1]["id"])
    head, line = shared.mk("dead").stdout.splitlines()
    assert head.split() == ["id", "letters", "time", "plugin", "topic", "deliveries", "reason"]
    assert line.split()[:2] == [newest, "3"]
    assert len(shared.mk("dead", "list", "--each").stdout.splitlines()) == 4
    none = shared.mk("dead", "replay", "--plugin", "greeter", "--topic", "nothing.*", "--since", "1h")
    assert none.stdout == "✓ dead letters delivered again: 0\n"
    done = shared.mk("dead", "replay", "--plugin", "greeter", "--since", "1h")
    assert done.stdout == "✓ dead letters delivered again: 3\n"
    ids = {letter["id"] for letter in letters}
    _until(lambda: len(found := shared.json("dead")) == 3 and not ids & {each["id"] for each in found} and found)
    assert "9 parsecs is not a time" in shared.mk("dead", "drop", "--since", "9 parsecs", code=2).stderr
    assert "MK0710" in shared.mk("dead", "show", newest, "--plugin", "greeter", code=2).stderr
    assert "MK0212" in shared.mk("dead", "drop", "--plugin", "nobody", code=1).stderr
    assert shared.mk("dead", "drop", "--topic", "order.*", MK_LANG="zh").stdout == "✓ 已丢弃死信 3 封\n"
    assert shared.json("dead") == []


def _until(ask: object) -> list[dict[str, object]]:
    """Repeat a query until it returns something, because events are handled asynchronously."""
    for _ in range(50):
        found = ask()  # type: ignore[operator]
        if found:
            return list(found)
    raise AssertionError("never")


def test_words_are_converted_by_the_type_hints_of_the_method(shared: Home) -> None:
    assert shared.mk("call", "greeter.greet", "5").stdout == '"Hello, 5!"\n'
    assert shared.mk("call", "greeter.greet", "who=1.10").stdout == '"Hello, 1.10!"\n'
    assert shared.mk("call", "greeter.add", "a=1", "b=2").stdout == "3\n"


def test_emit_says_that_no_plugin_listens(shared: Home) -> None:
    assert shared.mk("emit", "order.craeted").stdout == (
        "! order.craeted  emitted; no plugin listens to this topic; did you mean order.created?\n"
    )
    assert shared.mk("emit", "zzz").stdout == "! zzz  emitted; no plugin listens to this topic\n"
    assert shared.json("emit", "zzz", "a=1") == {"topic": "zzz", "data": {"a": 1}, "listeners": []}
    assert shared.json("emit", "order.created", "order_id=1")["listeners"] == ["greeter"]


def test_emit_wants_pairs(shared: Home) -> None:
    assert "KEY=VALUE" in shared.mk("emit", "order.created", "7", code=2).stderr
    assert "MK0601" in shared.mk("emit", "no topic!", code=1).stderr
    assert "MK0401" in shared.mk("emit", "kernel.message", code=1).stderr


def test_data(shared: Home) -> None:
    assert shared.mk("data").stdout == "no data\n"
    assert shared.mk("data", "rates.EUR", '{"buy": 7.1}').stdout == "✓ rates.EUR  revision 1\n"
    shared.mk("data", "rates.USD", "plain words")
    assert shared.json("data")["rates.USD"]["value"] == "plain words"
    assert '{"buy": 7.1}' in shared.mk("data", "rates.EUR").stdout
    assert set(shared.json("data", "rates")) == {"rates.EUR", "rates.USD"}
    for key in ("rates.EUR", "rates.USD"):
        assert shared.mk("data", key, "--delete").stdout == f"✓ {key}  deleted\n"
    assert shared.json("data") == {}


def test_logs(shared: Home) -> None:
    assert re.search(r"^· \d\d:\d\d:\d\d  greeter  greeter is ready$", shared.mk("logs").stdout, re.M)
    assert json.loads(shared.mk("logs", "greeter", "-n", "1", "--json").stdout)["plugin"] == "greeter"
    assert "MK0212" in shared.mk("logs", "nobody", code=1).stderr


def test_explain_needs_no_kernel(home: Home) -> None:
    english = home.mk("explain", "0207").stdout
    assert english.startswith("MK0207 · warn · a plugin is alive but silent")
    assert "What you can do" in english
    assert "你可以怎么做" in home.mk("explain", "MK0207", MK_LANG="zh").stdout
    assert home.json("explain", "207")["id"] == "MK0207"
    assert "MK0720  no message MK0270; the nearest: MK0207" in home.mk("explain", "MK0270", code=1).stderr
    nonsense = home.mk("explain", "nonsense", code=1)
    assert nonsense.stderr == "✗ MK0720  no message nonsense; an id is MK and four digits, such as MK0101\n"


def test_glossary(home: Home) -> None:
    assert "宿主" in home.mk("glossary", "host").stdout
    assert len(home.json("glossary")) > 40
    assert "MK0711" in home.mk("glossary", "nonsense", code=1).stderr


def test_doctor_reports_a_missing_guest(home: Home) -> None:
    rows = {line.split()[0]: line for line in home.mk("doctor").stdout.splitlines()}
    assert rows["thread"].split()[1] == rows["process"].split()[1] == "yes"
    for level in ("sandbox", "wasm"):
        if find_spec(f"microkernel.hosts.{level}") is None:
            assert re.search(r"no +MK0501 .*not built yet", rows[level])
    assert home.json("doctor")["thread"]["here"] is True
    assert "不能" in home.mk("doctor", LANG="zh_CN.UTF-8").stdout


def test_doctor_says_whether_the_native_core_is_used(home: Home) -> None:
    def doctor(*args: str, **env: str) -> str:  # it is decided when a program starts
        env = {**home.env, **env}
        return subprocess.run([*MK, "doctor", *args], env=env, capture_output=True, text=True, check=True).stdout

    assert re.search(r"(?m)^native +no +turned off by MK_PURE", doctor(MK_PURE="1"))
    assert re.search(r"(?m)^native +否 +已由 MK_PURE 关闭", doctor(MK_PURE="1", LANG="zh_CN.UTF-8"))
    used = find_spec("microkernel_native") is not None
    assert json.loads(doctor("--json", MK_PURE="0"))["native"] == {
        "here": used,
        "why": "used" if used else "missing",
        "id": None,
    }


def test_new_writes_a_plugin_that_runs(home: Home, start: Start) -> None:
    said = home.mk("new", "hello").stdout
    assert "plugins/hello.py" in said
    assert "\n  mk call hello.greet you " in said
    before = (home.plugins / "hello.py").read_text(encoding="utf-8")
    assert "MK0708" in home.mk("new", "hello", code=1).stderr
    assert (home.plugins / "hello.py").read_text(encoding="utf-8") == before
    said = home.mk("new", "nihao", LANG="zh_CN.UTF-8", MK_COMMAND="./run mk").stdout
    assert "\n  ./run mk call nihao.greet you " in said
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ hello")
    running.wait_for("✓ nihao")
    assert home.mk("call", "hello.greet", "Ann").stdout == '"Hello, Ann!"\n'
    assert home.mk("call", "nihao.greet").stdout == '"你好，世界！"\n'
    _until(lambda: home.json("data", "hello.last"))
    home.mk("reload", "hello")
    assert home.json("info", "hello")["generation"] == 2


@pytest.mark.parametrize("name", ["Big", "os", "a b", "../x", "kernel"])
def test_new_refuses_a_name_no_plugin_can_have(home: Home, name: str) -> None:
    assert "MK0108" in home.mk("new", name, code=1).stderr
    assert list(home.plugins.iterdir()) == []


def test_new_leaves_no_partial_file_on_a_full_disk(home: Home) -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$0" -c "$1" new hello', MK[0], MK[2]], cwd=home.folder, env=home.env,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "✗ MK0706  plugins/hello.py: cannot be written: file too large\n")
    assert list(home.plugins.iterdir()) == []


def test_without_a_kernel(home: Home) -> None:
    for command in (["ps"], ["call", "a.b"], ["kill", "x"], ["logs", "-f"], ["data"]):
        done = home.mk(*command, code=2)
        assert re.fullmatch(r"✗ MK0701  no kernel answers at \S+\n", done.stderr)
    assert "没有内核" in home.mk("ps", code=2, LANG="zh_CN.UTF-8").stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["pss"], "no command pss; did you mean ps?"),
        (["info"], "NAME is missing; mk help info shows how"),
        (["ps", "--color"], "no option --color; mk help ps shows how"),
        (["logs", "-n", "many"], "  --last needs a number; mk help logs shows how"),
        (["call", "a.b", "--timeout", "long"], "  --timeout needs a number; mk help call shows how"),
        (
            ["run", "--isolation", "jail"],
            "  --isolation: choose from thread, process, sandbox, wasm; mk help run shows how",
        ),
        (["check", "--fail-on", "it's"], "  --fail-on: choose from notice, warn, error; mk help check shows how"),
        (["help", "nothing"], "no command nothing; help lists them"),
        (["ps", "more"], "too many arguments: more; mk help ps shows how"),
        (["wasm", "prepare", "more"], "too many arguments: more; mk help wasm shows how"),
        (["ps", "--json=3"], "--json takes no value"),
        (["logs", "x", "-n"], "-n needs a value"),
        (["wasm"], "COMMAND is missing; mk help wasm shows how"),
        (["attach"], "needs a terminal"),
    ],
)
def test_usage(home: Home, args: list[str], words: str) -> None:
    done = home.mk(*args, code=2)
    assert done.stderr.startswith("✗ MK0710  ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("args", [
    ["pss"], ["info"], ["call"], ["ps", "--color"], ["logs", "-n", "many"], ["run", "--isolation", "jail"],
    ["ps", "more"], ["ps", "--json=3"], ["logs", "x", "-n"], ["wasm"], ["wasm", "nothing"], ["--color"],
])  # fmt: skip
def test_usage_errors_are_entirely_chinese(home: Home, args: list[str]) -> None:
    """Except for literal words: commands, options, and possible values."""
    said = home.mk(*args, code=2, LANG="zh_CN.UTF-8").stderr.removeprefix("✗ MK0710  ")
    words = {"mk", "help", "thread", "process", "sandbox", "wasm", "ps", "json", "color", "isolation", "last", *args}
    assert set(re.findall(r"[A-Za-z]+", said)) - words <= {"info", "call", "logs", "run", "n"}


def test_help(home: Home) -> None:
    alone, asked = home.mk().stdout, home.mk("help").stdout
    assert alone == asked
    for command in ("run", "ps", "attach", "doctor", "glossary"):
        assert f"mk {command} " in asked
    assert "--timeout" in home.mk("help", "call").stdout
    assert home.mk("call", "--help").stdout == home.mk("help", "call").stdout
    assert "启动内核" in home.mk("help", LANG="zh_CN.UTF-8").stdout
    assert home.mk("--version").stdout.startswith("microkernel ")


def test_life(home: Home, start: Start) -> None:
    path = home.write("greeter.py", GREETER)
    home.write("other.py", GREETER.replace("# version", '# requires = ["greeter"]\n# version'))
    running = start("--headless", "--no-watch", "--isolation", "thread")
    running.wait_for("✓ other")
    assert home.mk("start", "greeter").stdout == "• greeter  active\n"
    assert "MK0211" in home.mk("stop", "greeter", code=1).stderr
    home.mk("stop", "greeter", "--cascade")
    assert {info["state"] for info in home.json("ps")} == {"stopped"}
    assert re.fullmatch(r"✓ greeter  generation 2, [\d.]+ ms\n", home.mk("start", "greeter").stdout)
    path.write_text(GREETER.replace('"1.2"', '"1.3"'), encoding="utf-8")
    assert "generation 3, version 1.3" in home.mk("reload", "greeter").stdout
    path.write_text("class Plugin(:\n", encoding="utf-8")
    done = home.mk("reload", "greeter", code=1)
    assert re.match(r"✗ greeter  MK0305 .*MK0103 .*1\.3 continues", done.stdout), "told once, by the kernel's message"
    assert done.stderr == ""
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
    assert re.match(r"✓ greeter  killed in [\d.]+ ms; callers notified: 0", home.mk("kill", "greeter").stdout)
    assert home.json("info", "greeter")["state"] == "stopped"
    assert home.mk("kill", "greeter").stdout == "• greeter  stopped\n"
    assert "MK0212" in home.mk("kill", "gretter", code=1).stderr
    assert home.mk("unload", "greeter").stdout == "✓ greeter  unloaded\n"
    assert [info["name"] for info in home.json("ps")] == ["other"]
    path.write_text(GREETER, encoding="utf-8")
    assert re.match(r"✓ greeter  1\.2 +thread +[\d.]+ ms", home.mk("load", "plugins/greeter.py").stdout)
    loaded = home.mk("load", "plugins/greeter.py", code=1).stderr
    assert re.search(
        r"MK0107  \S*plugins/greeter\.py is not loaded: the same file already has the plugin name greeter; "
        "to load a changed source: mk reload greeter",
        loaded,
    )
    assert "MK0101" in home.mk("load", "plugins/nothing.py", code=2).stderr


def test_a_start_that_ends_its_process_exits_non_zero(home: Home, start: Start) -> None:
    path = home.write("frail.py", GREETER)
    start("--headless", "--no-watch").wait_for("✓ frail")
    home.mk("stop", "frail")
    ends = GREETER.replace('self.api.log.info("greeter is ready")', "import os; os._exit(3)")
    path.write_text(ends, encoding="utf-8")
    for command in ["start", "frail"], ["start", "frail", "--reset"], ["reload", "frail"], ["load", "plugins/frail.py"]:
        if command[0] == "load":
            home.mk("unload", "frail")
        done = home.mk(*command, code=1)
        assert "exit status 3" in done.stdout + done.stderr


def test_logs_follow_until_the_kernel_ends(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    follower = subprocess.Popen(
        [*MK, "logs", "-f", "greeter"], cwd=home.folder, env=home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8",
    )  # fmt: skip
    with follower:
        assert follower.stdout is not None
        assert "greeter is ready" in follower.stdout.readline()
        home.mk("reload", "greeter")
        assert "greeter is ready" in follower.stdout.readline()
        running.end()
        assert follower.wait(PATIENCE) == 0
        assert follower.stderr is not None
        assert "MK0612" in follower.stderr.read()


def test_logs_follow_is_interrupted_quietly(shared: Home) -> None:
    follower = subprocess.Popen(
        [*MK, "logs", "-f"], env=shared.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE) == 130
        assert follower.stderr is not None
        assert follower.stderr.read() == ""


INTERRUPTED_WHEN = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from microkernel.cli import main; main()
"""


@pytest.mark.parametrize("module", ["microkernel.cli.commands", "rich", "microkernel.app"])
def test_interrupting_a_loading_command_prints_nothing(home: Home, module: str) -> None:
    done = subprocess.run(
        [MK[0], "-c", INTERRUPTED_WHEN.format(module=module), "doctor"], env=home.env, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_closed_pipe_is_not_an_error(shared: Home) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" glossary | head -n 1', MK[0], MK[2]], env=shared.env, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


def test_several_kernels(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    for name in ("one", "two"):
        start("--headless", "--isolation", "thread", "--name", name).wait_for("✓ greeter")
    assert "MK0707  several kernels are running: one, two" in home.mk("ps", code=2).stderr
    assert "greeter" in home.mk("ps", "--kernel", "two").stdout
    assert "greeter" in home.mk("ps", MK_KERNEL="one").stdout
    assert "MK0701" in home.mk("ps", "--kernel", "three", code=2).stderr


def test_the_socket_of_a_running_kernel(shared: Home) -> None:
    path = shared.runtime / "microkernel" / f"{shared.folder.name}.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700


def test_the_missing_extra_is_named(home: Home) -> None:
    for name in ("typer", "rich"):
        code = f"import sys; sys.modules[{name!r}] = None; from microkernel.cli import main; main()"
        done = subprocess.run([MK[0], "-c", code, "ps"], env=home.env, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == '✗ MK0510  extra not installed: pip install "microkernel[console]"\n'


LEAVER = """\
import atexit, sys
from microkernel import IPlugin

class Plugin(IPlugin):
    def start(self) -> None:
        sys.left_here = [self]
        atexit.register(self.stop)
    def stop(self) -> None: ...
"""


def test_leftovers_of_a_plugin_are_reported(home: Home, start: Start) -> None:
    home.write("leaver.py", LEAVER)
    start("--headless", "--isolation", "thread").wait_for("✓ leaver")
    left = "Plugin object: kept by list 'left_here' of module sys"
    lines = home.mk("reload", "leaver").stdout.splitlines()
    assert lines[0].startswith("✓ leaver  reloaded: generation 2")
    assert lines[1:] == [
        "• leaver  not undone by the plugin, removed by the kernel: method 'stop' (leaver.py:8) in atexit"
    ]
    assert home.json("reload", "leaver")["leaked"] == []
    assert home.mk("unload", "leaver").stdout == f"✓ leaver  unloaded\n! leaver  MK0302  left behind: {left}\n"
    home.mk("load", "plugins/leaver.py")
    assert home.json("unload", "leaver") == [left]


COUNTED = """
import atexit, gc, sys
from microkernel.cli import main
began = []
gc.callbacks.append(lambda phase, info: began.append(info["generation"]) if phase == "start" else None)
atexit.register(lambda: print(len(began), gc.get_freeze_count(), file=sys.stderr))
main()
"""


def test_a_command_takes_no_time_for_collecting_garbage(home: Home) -> None:
    """Neither during imports nor at the end; that was a third of a command's time."""
    done = subprocess.run(
        [MK[0], "-c", COUNTED, "--version"], env=home.env, capture_output=True, text=True, check=True
    )  # fmt: skip
    collections, frozen = map(int, done.stderr.split())
    assert collections < 10
    assert frozen > 10_000
