"""The console through a terminal: what a user types and sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from microkernel.cli.shutdown import SAME

from .conftest import GREETER, MK, PATIENCE, Home, Start

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]|\r|\x07")
HANG = GREETER.replace("while not self.api.cancelled: pass", "while True: pass")


class Terminal:
    """`mk` on a separate terminal. Its output is recorded without cursor movements."""

    def __init__(self, home: Home, *args: str, **env: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        environment = {**home.env, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **env}
        environment.pop("COLUMNS")
        self.process = subprocess.Popen(
            [*MK, *args], cwd=home.folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        self._seen = b""
        self._mark = 0

    @property
    def text(self) -> str:
        return CONTROLS.sub("", self._seen.decode("utf-8", "replace"))

    def type(self, keys: str) -> None:
        """Type a line. ``see`` then only matches later output."""
        self._read(0.0)
        self._mark = len(self.text)
        os.write(self._master, keys.encode())

    def see(self, pattern: str) -> str:
        """Wait until a pattern appears in the output since the last typed line."""
        until = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text[self._mark :])):
            assert time.monotonic() < until, f"{pattern!r} never came:\n{self.text[self._mark :]}"
            if not self._read(0.2) and self.process.poll() is not None and not self._read(0.2):
                raise AssertionError(f"it ended before {pattern!r}:\n{self.text}")
        return found[0]

    def _read(self, seconds: float) -> bool:
        """Read output. Returns whether there was any."""
        came = False
        while select.select([self._master], [], [], 0.0 if came else seconds)[0]:
            try:
                self._seen += os.read(self._master, 65536)
            except OSError:
                return came
            came = True
        return came

    def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.05)
        self._read(0.05)
        assert self.process.poll() is not None, self.text
        assert "Traceback" not in self.text
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Return whether the terminal has its settings of before: echo, line editing and control keys."""
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self._master)
        os.close(self._slave)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(home: Home) -> Iterator[Open]:
    opened: list[Terminal] = []

    def begin(*args: str, **env: str) -> Terminal:
        opened.append(Terminal(home, *args, **env))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def test_a_session(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "thread")
    screen.see(r'kernel "home" · plugins found: 1 · mk help')
    screen.see(r"✓ greeter  1\.2 +thread +[\d.]+ ms")
    screen.see("mk>")
    screen.type("ps\r")
    screen.see(r"plugin +version +level +state")
    screen.see(r"greeter +1\.2 +thread +active")
    screen.type("ps --all\r")
    screen.see(r"console +0\.1\.0 +thread +active")
    screen.see(r"greeter +1\.2 +thread +active")
    screen.see(r"watcher +0\.1\.0 +thread +active")
    screen.type("call greeter.greet Ann\r")
    screen.see('"Hello, Ann!"')
    screen.type("call greeter.fail\r")
    screen.see(r"✗ MK0608  greeter\.fail raised ValueError: no such customer \(greeter\.py:32 in helper\)")
    screen.type("kill greeter\r")
    screen.see(r"✓ greeter  killed in [\d.]+ ms; callers notified: 0; restart: no")
    screen.type("kill nobody\r")
    screen.see(r"✗ MK0212  no plugin 'nobody'")
    screen.type("start greeter\r")
    screen.see(r"✓ greeter  generation 2")
    screen.type("watch order.*\r")
    screen.see(r"watching: order\.\*")
    screen.type("emit order.created order_id=7\r")
    screen.see(r'→ order\.recorded  greeter  \{"order_id": 7\}')
    screen.type("logs greeter\r")
    screen.see(r"· \d\d:\d\d:\d\d  greeter  greeter is ready")
    screen.type("explain 0207\r")
    screen.see("MK0207 · warn · a plugin is alive but silent")
    screen.type("psss\r")
    screen.see(r"no command psss; did you mean ps\?")
    screen.type("help\r")
    screen.see(r"call PLUGIN\.METHOD .* +call a method")
    screen.type("quit\r")
    screen.see("stopping; once more to kill")
    screen.see("greeter  stopped")
    assert screen.ended() == 0
    assert screen.is_as_before()
    assert not (home.runtime / "microkernel" / f"{home.folder.name}.sock").exists()


def test_an_answer_comes_before_the_next_prompt(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "thread")
    screen.see("✓ greeter")
    screen.see("mk>")
    for number in range(10):
        screen.type(f"nothing{number}\r")
        screen.see(rf"MK0710  no command nothing{number}; .*\s+mk>")
    assert len(re.findall(r"nothing\d\s+✗ MK0710", screen.text)) == 10, screen.text


def test_each_pasted_line_is_a_command(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    shell = terminal("run")
    shell.see("✓ greeter")
    greet = "call greeter.greet"
    lines = [f"{greet} one", "stop greeter", f"{greet} two", "start greeter", f"{greet} three"]
    shell.type("\x1b[200~" + "\n".join(lines) + "\x1b[201~")
    shell.type("\r")
    shell.see('"Hello, one!"(.|\n)*MK0213(.|\n)*"Hello, three!"')
    shell.type("quit\r")
    assert shell.ended() == 0
    history = home.folder / "state" / "microkernel" / home.folder.name / "console" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700


def test_completion_and_history(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "thread")
    screen.see("✓ greeter")
    screen.type("rel")
    screen.see("reload +load a plugin's new source")
    screen.type("\t gree")
    screen.see("greeter")
    screen.type("\t\r")
    screen.see(r"✓ greeter  reloaded: generation 2")
    screen.type("call greeter.gr")
    screen.see(r"greeter\.greet")
    screen.type("\t\r")
    screen.see('"Hello, you!"')
    screen.type("\x04")
    assert screen.ended() == 0
    history = home.folder / "state" / "microkernel" / home.folder.name / "console" / "history"
    assert "+reload greeter\n" in history.read_text(encoding="utf-8")
    again = terminal("run", "--isolation", "thread")
    again.see("✓ greeter")
    again.type("\x1b[A\r")
    again.see('"Hello, you!"')


def test_it_answers_while_every_plugin_hangs(home: Home, terminal: Open) -> None:
    for name in ("one", "two"):
        home.write(f"{name}.py", HANG)
    screen = terminal("run", "--isolation", "process")
    screen.see("✓ one")
    screen.see("✓ two")
    for name in ("one", "two"):
        screen.type(f"call {name}.hang --timeout 60\r")
        screen.see(rf"· call {name}\.hang --timeout 60  takes longer; the answer will be shown here")
    screen.type("ps\r")
    screen.see(r"one +1\.2 +process +active")
    screen.type("kill one\r")
    screen.see(r"✓ one  killed in [\d.]+ ms; callers notified: 1")
    screen.see(r"✗ MK0214  one\.hang: the plugin died: killed by hand")
    screen.type("kill two\r")
    screen.see(r"✓ two  killed in")
    screen.type("\x04")
    assert screen.ended() == 0
    assert screen.is_as_before()


@pytest.mark.slow
def test_it_answers_while_a_plugin_does_not_start(home: Home, terminal: Open) -> None:
    home.write("stuck.py", GREETER.replace("def start(self): ", "def start(self): __import__('time').sleep(60); "))
    screen = terminal("run", "--isolation", "process")
    screen.see("plugins found: 1")
    screen.type("ps\r")
    screen.see(r"stuck +1\.2 +process +(discovered|starting)")
    screen.type("kill stuck\r")
    screen.see(r"✓ stuck +killed in")
    screen.type("quit\r")
    assert screen.ended() == 0


def test_control_c_clears_the_line_and_then_ends(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "thread")
    screen.see("✓ greeter")
    screen.type("kill greeter")
    screen.see("kill greeter")
    screen.type("\x03")
    screen.see("mk>")
    screen.type("call greeter.greet\r")
    screen.see('"Hello, you!"')
    screen.type("\x03")
    screen.see("greeter  stopped")
    assert screen.ended() == 0
    assert screen.is_as_before()


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_leaving_during_a_pending_call_prints_no_traceback(home: Home, terminal: Open, key: str) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "process")
    screen.see("✓ greeter")
    screen.type("call greeter.hang --timeout 60\r")
    screen.see("takes longer; the answer will be shown here")
    screen.type(key)
    screen.see("greeter  stopped")
    assert screen.ended() == 0
    assert screen.is_as_before()


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_gives_the_terminal_back(home: Home, terminal: Open, signals: int) -> None:
    home.write("slow.py", GREETER.replace("def stop(self): pass", "def stop(self): __import__('time').sleep(60)"))
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "process")
    screen.see("✓ greeter")
    screen.see("✓ slow")
    screen.see("mk>")
    screen.process.send_signal(signal.SIGTERM)
    screen.see("stopping; once more to kill")
    if signals == 2:
        time.sleep(SAME)
        screen.process.send_signal(signal.SIGTERM)
        assert screen.ended() == 128 + signal.SIGTERM
    else:
        screen.see("greeter  stopped")
        assert screen.ended() == 0
    assert screen.is_as_before()


def test_output_without_end_does_not_drown_the_prompt(home: Home, terminal: Open) -> None:
    home.write("loud.py", GREETER.replace("def stop", '''@expose
    def shout(self):
        for number in range(20000): self.api.log.info("line %d", number)
        return "done shouting"
    def stop'''))  # fmt: skip
    screen = terminal("run", "--isolation", "thread")
    screen.see("✓ loud")
    screen.type("call loud.shout --timeout 60\r")
    screen.see("done shouting")
    screen.type("ps\r")
    screen.see(r"loud +1\.2 +thread +active")
    assert screen.text.count("line ") < 10_000
    screen.type("quit\r")
    assert screen.ended() == 0


def test_in_chinese(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "thread", LANG="zh_CN.UTF-8")
    screen.see("内核“home” · 找到 1 个插件")
    screen.see("✓ greeter")
    screen.type("ps\r")
    screen.see(r"插件 +版本 +级别 +状态")
    screen.type("kill nobody\r")
    screen.see("MK0212  没有插件")
    screen.type("quit\r")
    screen.see("greeter  已停止")
    assert screen.ended() == 0


def test_attach(home: Home, start: Start, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    screen = terminal("attach")
    screen.see(r'attached to the kernel "home" · plugins: 1 · help')
    screen.type("call greeter.greet Bob\r")
    screen.see('"Hello, Bob!"')
    screen.type("reload greeter\r")
    screen.see(r"✓ greeter  reloaded: generation 2")
    screen.type("watch order.*\r")
    screen.see("watching")
    home.mk("emit", "order.created", "order_id=9")
    screen.see(r'→ order\.recorded  greeter  \{"order_id": 9\}')
    screen.type("quit\r")
    screen.see("detached; the kernel keeps running")
    assert screen.ended() == 0
    assert screen.is_as_before()
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'


def test_attach_ends_with_the_kernel(home: Home, start: Start, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless", "--isolation", "thread")
    running.wait_for("✓ greeter")
    screen = terminal("attach")
    screen.see("attached")
    screen.see("mk>")
    running.end()
    screen.see("MK0612")
    assert screen.ended() == 1
    assert screen.is_as_before()


def test_attach_without_a_kernel(home: Home, terminal: Open) -> None:
    screen = terminal("attach")
    screen.see("MK0701")
    assert screen.ended() == 2
