"""`mk` with unusual streams, folders and users works, or says in one line why not."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import microkernel
from microkernel.cli import streams
from microkernel.errors import CallFailed
from microkernel.plugins.console.as_json import json_text

from .conftest import GREETER, MK, PATIENCE, Home, Start

COMPLAINTS = re.compile(r"Traceback|Exception ignored|lost sys.std")


def run(home: Home, *args: str, closed: tuple[int, ...] = (), **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with some of its standard streams closed, and check that nothing complains."""
    env = {**home.env, **options.pop("env", {})}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [*without(closed), *MK, *args]
    done = subprocess.run(
        command, cwd=home.folder, env=env, text=True, encoding="utf-8", timeout=PATIENCE, check=False, **pipes
    )
    assert not COMPLAINTS.search((done.stdout or "") + (done.stderr or "")), (done.stdout, done.stderr)
    return done


def without(closed: tuple[int, ...]) -> list[str]:
    """Return the shell prefix that closes these streams."""
    return ["sh", "-c", 'exec "$@"' + "".join(f" {number}>&-" for number in closed), "sh"] if closed else []


COMMANDS = {("ps",): 0, ("info", "nothere"): 1, ("explain", "MK0101"): 0, ("nocommand",): 2}


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_every_command_does_its_work_with_streams_closed(shared: Home, closed: tuple[int, ...]) -> None:
    for command, code in COMMANDS.items():
        done = run(shared, *command, closed=closed)
        assert done.returncode == code, command
        assert bool(done.stdout) == (code == 0 and 1 not in closed)


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_a_kernel_runs_with_streams_closed(home: Home, closed: tuple[int, ...]) -> None:
    home.write("greeter.py", GREETER)
    with open(home.folder / "said", "w+", encoding="utf-8") as said:
        running = subprocess.Popen(
            [*without(closed), *MK, "run"],
            cwd=home.folder,
            env=home.env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            until_greeted(home, running)
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE) == 0
        finally:
            running.kill()
            running.wait()
        said.seek(0)
        assert not COMPLAINTS.search(said.read())


def until_greeted(home: Home, running: subprocess.Popen[Any]) -> None:
    """Return when the kernel answers. Each attempt is a process, which takes time."""
    for _ in range(100):
        assert running.poll() is None
        if run(home, "call", "greeter.greet").stdout == '"Hello, you!"\n':
            return
    raise AssertionError("the kernel never answered")


@pytest.mark.parametrize("command", [("ps",), ("ps", "--json"), ("help",), ("ps", "--help"), ("--version",)])
def test_a_full_disk_is_one_line(shared: Home, command: tuple[str, ...]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(shared, *command, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "✗ MK0706  standard output: cannot be written: no space left on device\n"


def test_a_full_disk_below_standard_error_is_borne(shared: Home) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert run(shared, "info", "nothere", stderr=full).returncode == 1
        assert run(shared, "nocommand", stderr=full, stdout=full).returncode == 2


@pytest.mark.parametrize("command", [("glossary",), ("ps", "--json")])
def test_a_pipe_without_a_reader_is_tolerated(shared: Home, command: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        assert run(shared, *command, stdout=theirs).returncode == 0
    finally:
        os.close(theirs)


def test_a_kernel_continues_without_a_reader(home: Home) -> None:
    home.write("greeter.py", GREETER)
    running = subprocess.Popen(
        [*MK, "run"],
        cwd=home.folder,
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert running.stdout is not None
    assert "kernel" in running.stdout.readline()
    running.stdout.close()
    try:
        until_greeted(home, running)
        run(home, "call", "greeter.fail")
        run(home, "stop", "greeter")
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
        assert running.stderr is not None
        assert not COMPLAINTS.search(running.stderr.read())
    finally:
        running.kill()
        running.wait()
        assert running.stderr is not None
        running.stderr.close()


def test_a_signal_that_is_ignored_stays_ignored(home: Home) -> None:
    home.write("greeter.py", GREETER)
    with open(home.folder / "said", "w+", encoding="utf-8") as said:
        running = subprocess.Popen(
            ["sh", "-c", 'trap "" "$1"; shift; exec "$@"', "sh", "INT", *MK, "run"],
            cwd=home.folder,
            env=home.env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            until_greeted(home, running)
            running.send_signal(signal.SIGINT)
            assert run(home, "call", "greeter.greet").returncode == 0
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE) == 0
            said.seek(0)
            assert said.read().count("greeter") >= 1
        finally:
            running.kill()
            running.wait()


def test_a_kernel_that_ignores_hangups_outlives_its_terminal(home: Home) -> None:
    home.write("greeter.py", GREETER)
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *MK, "run"],
        cwd=home.folder,
        env=home.env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        until_greeted(home, running)
        os.close(ours)  # the terminal closes
        running.send_signal(signal.SIGHUP)
        until_greeted(home, running)
        assert run(home, "stop", "greeter").returncode == 0
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    finally:
        running.kill()
        running.wait()


def test_characters_that_an_encoding_lacks_are_escaped(shared: Home) -> None:
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert r"\u63d2\u4ef6" in run(shared, "ps", env={**env, "MK_LANG": "zh"}).stdout
    assert r"\u6ca1\u6709" in run(shared, "info", "nothere", env={**env, "MK_LANG": "zh"}).stderr
    assert json.loads(run(shared, "call", "greeter.greet", "汉字", "--json", env=env).stdout) == "Hello, 汉字!"


def test_an_old_locale(shared: Home) -> None:
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "MK_LANG": "zh"}
    assert "greeter" in run(shared, "ps", env=env).stdout


@pytest.mark.parametrize("columns", ["0", "1"])
def test_any_width_and_any_terminal(shared: Home, columns: str) -> None:
    for command in (("ps",), ("info", "greeter"), ("help",)):
        ours, theirs = pty.openpty()
        env = {**shared.env, "COLUMNS": columns, "TERM": "dumb"}
        with subprocess.Popen([*MK, *command], cwd=shared.folder, env=env, stdout=theirs, stderr=theirs) as running:
            os.close(theirs)
            said = read_all(ours)
            assert running.wait(PATIENCE) == 0, said
        assert not COMPLAINTS.search(said)
        assert "\x1b" not in said


def read_all(terminal: int) -> str:
    said = b""
    with open(terminal, "rb", buffering=0) as source:
        try:
            while part := source.read(4096):
                said += part
        except OSError:  # the other end is closed
            pass
    return said.decode(errors="replace")


# Folders and users


def test_folders_that_are_not_there(home: Home, start: Start) -> None:
    env = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "XDG_STATE_HOME": "/dev/null/x"}
    home.write("greeter.py", GREETER)
    running = start(**env)
    running.wait_for("✓ greeter")
    assert run(home, "call", "greeter.greet", env=env).returncode == 0
    assert running.end() == 0
    assert not COMPLAINTS.search(running.text)


NOBODY = 54_321  # a user that no list of users has


def as_nobody(home: Home, *args: str, wait: bool = True) -> Any:
    for folder in [home.folder, *home.folder.parents]:
        if folder.owner() == "root" and folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    os.chown(home.runtime, NOBODY, NOBODY)
    env = {key: value for key, value in home.env.items() if key not in ("HOME", "XDG_STATE_HOME", "USER", "LOGNAME")}
    env["TMPDIR"] = "/tmp"
    command = {
        "args": [*MK, *args],
        "cwd": home.folder,
        "env": env,
        "user": NOBODY,
        "group": NOBODY,
        "extra_groups": [],
    }
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return (
        subprocess.run(**command, **pipes, timeout=PATIENCE, check=False)
        if wait
        else subprocess.Popen(**command, **pipes)
    )


DATA = """
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def keep(self): return str(self.api.data_dir)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_an_entry_and_a_home(home: Home) -> None:
    try:
        as_nobody(home, "--version").check_returncode()
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("another user cannot run this interpreter")
    home.write("greeter.py", GREETER)
    home.write("keeper.py", DATA)
    running = as_nobody(home, "run", wait=False)
    try:
        while "✓ keeper" not in (line := running.stdout.readline()):
            assert line, running.wait()
        assert as_nobody(home, "call", "greeter.greet").stdout == '"Hello, you!"\n'
        assert "set HOME or XDG_STATE_HOME" in as_nobody(home, "call", "keeper.keep").stdout
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    finally:
        running.kill()
        running.communicate()


def without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)


@pytest.mark.parametrize("level", ["thread", "process"])
def test_a_missing_home_is_named_to_a_plugin_that_needs_a_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    without_a_home(monkeypatch)
    (tmp_path / "keeper.py").write_text(DATA, encoding="utf-8")
    refused = pytest.raises(CallFailed, match="set HOME or XDG_STATE_HOME")
    with microkernel.Kernel(tmp_path, isolation=level) as kernel, refused:
        kernel.call("keeper.keep")


def test_a_command_where_nothing_can_be_written(home: Home, start: Start) -> None:
    """As on a read-only root: a kernel in XDG_RUNTIME_DIR, and no folder for temporary files."""
    home.write("greeter.py", GREETER)
    start().wait_for("✓ greeter")
    program = "import tempfile; tempfile._candidate_tempdir_list = lambda: []; from microkernel.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "ps"],
        cwd=home.folder,
        env=home.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "greeter" in done.stdout


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="this Python cannot import socket there")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("ps",), 0),
        (("run",), 2),
        (("load", "x.py"), 2),
        (("check", "x"), 2),
        (("doctor",), 0),
    ],
)
def test_a_working_folder_that_is_gone(shared: Home, tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1"; rmdir "$1"; shift; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(gone), *MK, *command],
        env=shared.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert not COMPLAINTS.search(done.stderr), done.stderr
    assert done.returncode == code, (done.stdout, done.stderr)


# A zip file


def zipped(folder: Path) -> Path:
    """The package in a zip file, as a wheel is, with its dependencies elsewhere."""
    package = Path(microkernel.__file__).parent
    with zipfile.ZipFile(folder / "microkernel.pyz", "w") as target:
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                target.write(file, file.relative_to(package.parent))
        target.writestr("__main__.py", "from microkernel.cli import main; main()")
    return folder / "microkernel.pyz"


@pytest.mark.slow
def test_from_a_zip_file(home: Home) -> None:
    home.write("greeter.py", GREETER)
    archive = zipped(home.folder)
    program = [sys.executable, str(archive)]

    def mk(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *args],
            cwd=home.folder,
            env=home.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert mk("explain", "MK0101").stdout == run(home, "explain", "MK0101").stdout
    for command in (("help",), ("doctor",), ("check", "plugins")):
        done = mk(*command)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert mk("new", "fresh").returncode == 0
    running = subprocess.Popen(
        [*program, "run"],
        cwd=home.folder,
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert running.stdout is not None
        while "✓ greeter" not in (line := running.stdout.readline()):
            assert line
        assert mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
        assert "watcher" in mk("ps", "--all").stdout
        assert "microkernel.pyz" not in mk("info", "watcher").stdout
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
        assert not COMPLAINTS.search(running.stdout.read())
    finally:
        running.kill()
        running.communicate()
    assert [*home.folder.glob("microkernel-*")] == []


# Pure


def test_values_without_a_json_form_become_strings() -> None:
    from datetime import UTC, datetime

    def refuse(name: str) -> None:
        raise AssertionError(name)

    nan, inf = float("nan"), float("inf")
    written = {
        "NaN": nan,
        "inf": [inf, -inf],
        "bytes": b"caf\xe9",
        "moment": datetime(2026, 1, 2, tzinfo=UTC),
        "half": "caf\udce9",
        "whole": 2**70,
        "tuple": (1, {2}),
        "other": object,
    }
    read = json.loads(json_text(written), parse_constant=refuse)
    assert read == {
        "NaN": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "bytes": "Y2Fm6Q==",
        "moment": "2026-01-02T00:00:00+00:00",
        "half": r"caf\xe9",
        "whole": 2**70,
        "tuple": [1, [2]],
        "other": "<class 'object'>",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1: "a", 2: "b"}, '{"1": "a", "2": "b"}'),
        ({1: "a", "1": "b"}, '[[1, "a"], ["1", "b"]]'),
        ({(1, 2): 3}, '{"[1, 2]": 3}'),
        ({None: 1, True: 2, 1.5: 3, b"x": 4}, '{"null": 1, "true": 2, "1.5": 3, "eA==": 4}'),
        ({float("nan"): 1, "NaN": 2}, '[["NaN", 1], ["NaN", 2]]'),
        ({"a": {1: 1, "1": {2: 2}}}, '{"a": [[1, 1], ["1", {"2": 2}]]}'),
    ],
)
def test_keys_that_are_no_texts_are_kept_apart(value: Any, text: str) -> None:
    assert json_text(value) == text


def test_terminal_control_characters_are_escaped() -> None:
    said = {"\x9b31m": "a\u202eb\x7f\u2028\x1b[0m\u200b"}
    text = json_text(said)
    assert json.loads(text) == said
    assert text.isprintable()


def test_only_utf_takes_every_character() -> None:
    kinds: dict[str, bool] = {"utf-8": True, "UTF8": True, "utf_16": True, "ascii": False, "latin-1": False, "": False}

    class Encoded:
        encoding = ""

    for kind, whole in kinds.items():
        Encoded.encoding = kind
        assert streams.is_unicode(Encoded) is whole  # type: ignore[arg-type]
