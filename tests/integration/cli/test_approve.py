"""Approvals at the command line and in the console: holding, asking and remembering. The level is only called
sandbox."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from microkernel.cli import approval_prompt
from microkernel.loader.lock import LockFile

from .conftest import Home, Start
from .test_console import Open
from .test_console import terminal as terminal

PRETEND = """
import sys
from importlib.machinery import ModuleSpec

class Pretend:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "microkernel.hosts.sandbox" else None
    def create_module(self, spec): return None
    def exec_module(self, module):
        from microkernel.hosts.process import ProcessHost
        module.SandboxHost = type("SandboxHost", (ProcessHost,), {"level": "sandbox"})

sys.meta_path.insert(0, Pretend())
"""
MAILER = '''
# /// script
# [tool.microkernel]
# version = "VERSION"
# isolation = "sandbox"
# [tool.microkernel.permissions]
# net = ["smtp.example.com:587"MORE]
# fs.read = ["/usr/share/zoneinfo"]
# call = ["billing.total"]
# ///
from microkernel import IPlugin, expose

class Plugin(IPlugin):
    """Sends mail."""
    def start(self): pass
    def stop(self): pass
    @expose
    def send(self): return "sent"
'''
DIFF = r"\+ call billing\.total, \+ net smtp\.example\.com:587, \+ fs\.read /usr/share/zoneinfo"


def mailer(version: str = "2.0", more: str = "") -> str:
    return MAILER.replace("VERSION", version).replace("MORE", more)


@pytest.fixture(autouse=True)
def pretend(home: Home, tmp_path: Path) -> None:
    """Make ``sandbox`` available on any machine."""
    folder = tmp_path / "pretend"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PRETEND, encoding="utf-8")
    home.env["PYTHONPATH"] = str(folder)
    home.write("mailer.py", mailer())


def approved(home: Home) -> dict[str, str]:
    """Return the approved versions in the lock."""
    return {name: each.version for name, each in LockFile(str(home.folder / "microkernel.lock")).read().items()}


def test_headless_denies_and_says_how_to_approve(home: Home, start: Start) -> None:
    running = start("--headless", "--no-watch")
    running.wait_for(rf"^! mailer  2\.0      held     MK0412  asks for more than was approved: {DIFF}      mk app")
    assert [(each["state"], each["error_id"]) for each in home.json("ps")] == [("held", "MK0412")]
    shown = home.mk("info", "mailer").stdout
    assert "+ net smtp.example.com:587" in shown
    assert "net  smtp.example.com:587" in shown
    assert "MK0213" in home.mk("call", "mailer.send", code=1).stderr
    refused = home.mk("approve", "mailer", code=1)
    assert "net" in refused.stdout
    assert "MK0416" in refused.stderr
    assert json.loads(home.mk("approve", "mailer", "--json", code=1).stdout)["error"]["id"] == "MK0416"
    assert approved(home) == {}


def test_a_script_approves_and_it_is_remembered(home: Home, start: Start) -> None:
    running = start("--headless", "--no-watch")
    running.wait_for("MK0412")
    done = home.mk("approve", "mailer", "--yes")
    assert "remembered in microkernel.lock" in done.stdout
    assert home.mk("call", "mailer.send").stdout == '"sent"\n'
    assert approved(home) == {"mailer": "2.0"}
    assert "nothing to approve" in home.mk("approve", "mailer").stdout
    running.end()
    start("--headless", "--no-watch").wait_for(r"^✓ mailer")


def test_approve_for_machines(home: Home, start: Start) -> None:
    start("--headless", "--no-watch").wait_for("MK0412")
    assert json.loads(home.mk("approve", "mailer", "--yes", "--json").stdout)["state"] == "active"


def test_a_new_version_is_shown_as_a_difference(home: Home, start: Start) -> None:
    start("--headless", "--no-watch").wait_for("MK0412")
    home.mk("approve", "mailer", "--yes")
    home.write("mailer.py", mailer("3.0", ', "evil.example.com:443"'))
    refused = home.mk("reload", "mailer", code=1)
    assert "+ net evil.example.com:443" in refused.stdout + refused.stderr
    assert home.mk("call", "mailer.send").stdout == '"sent"\n'
    shown = home.mk("approve", "mailer", code=1).stdout.splitlines()
    assert shown[0] == "mailer 3.0 asks for more than was approved"
    assert shown[1].split() == ["+", "net", "evil.example.com:443"]
    home.mk("approve", "mailer", "--yes")
    assert home.json("info", "mailer")["version"] == "3.0"
    assert approved(home) == {"mailer": "3.0"}


def test_changed_files_are_named(home: Home, start: Start) -> None:
    start("--headless", "--no-watch").wait_for("MK0412")
    home.mk("approve", "mailer", "--yes")
    home.write("mailer.py", mailer() + "# more\n")
    shown = home.mk("approve", "mailer", code=1).stdout.splitlines()
    assert shown[0] == "mailer 2.0: its files changed since they were approved"
    assert shown[1].split() == ["~", "mailer.py"]


def test_the_lock_is_beside_the_configuration(home: Home, start: Start) -> None:
    etc = home.folder / "etc"
    etc.mkdir()
    (etc / "mine.toml").write_text('plugins = ["../plugins"]\nname = "mine"\n', encoding="utf-8")
    start("--headless", "--no-watch", "--config", "etc/mine.toml").wait_for("MK0412")
    home.mk("approve", "mailer", "--yes")
    assert LockFile(str(etc / "microkernel.lock")).read().keys() == {"mailer"}


def test_a_broken_lock_is_one_error_and_is_kept(home: Home) -> None:
    lock = home.folder / "microkernel.lock"
    lock.write_text("<<<<<<< HEAD\n", encoding="utf-8")
    done = home.mk("run", "--headless", code=1)
    assert done.stderr.count("\n") == 1
    assert "MK0414  microkernel.lock: " in done.stderr
    assert lock.read_text("utf-8") == "<<<<<<< HEAD\n"


# On a terminal


def test_a_terminal_is_asked_once(home: Home, terminal: Open) -> None:
    first = terminal("run", "--no-watch")
    first.see("mailer 2.0 asks for")
    first.see(r"net +smtp\.example\.com:587")
    first.see(r"files +read  /usr/share/zoneinfo")
    first.see(r"calls +billing\.total")
    first.see(r"Allow\? \[y\] yes, remember   \[o\] once   \[n\] no   \[d\] details")
    first.type("y\r")
    first.see("remembered in microkernel.lock")
    first.see("✓ mailer")
    first.see("mk>")
    first.type("call mailer.send\r")
    first.see('"sent"')
    first.type("quit\r")
    assert first.ended() == 0
    assert approved(home) == {"mailer": "2.0"}
    second = terminal("run", "--no-watch")
    second.see("✓ mailer")
    assert "Allow" not in second.text


def test_details_and_a_no(home: Home, terminal: Open) -> None:
    asked = terminal("run", "--no-watch")
    asked.see(r"details ")
    asked.type("d\r")
    asked.see("SHA-256")
    asked.see(r"\[d\] details ")
    asked.type("what\r")
    asked.see(r"\[d\] details ")
    asked.type("n\r")
    asked.see("not allowed; held")
    asked.see("MK0412")
    asked.see("mk>")
    asked.type("ps\r")
    asked.see("held")
    asked.type("approve mailer\r")
    asked.see(r"net +smtp")
    asked.type("approve mailer\r")
    asked.see("✓ mailer")
    asked.type("call mailer.send\r")
    asked.see('"sent"')
    assert approved(home) == {"mailer": "2.0"}


def test_an_approval_once_is_not_saved_in_the_lock(home: Home, terminal: Open) -> None:
    asked = terminal("run", "--no-watch")
    asked.see("details ")
    asked.type("o\r")
    asked.see("allowed until the kernel ends")
    asked.see("✓ mailer")
    assert approved(home) == {}


def test_it_asks_in_chinese(terminal: Open) -> None:
    asked = terminal("run", "--no-watch", LANG="zh_CN.UTF-8")
    asked.see(r"mailer 2\.0 申请以下权限")
    asked.see(r"是否允许？\[y\] 允许并记住   \[o\] 仅此一次   \[n\] 不允许   \[d\] 详情 ")
    asked.type("n\r")
    asked.see("未允许，待批准")
    asked.see(r"待批准 +MK0412  申请的权限超出已批准的范围：\+ call")


def test_the_end_of_the_input_is_a_no(home: Home, terminal: Open) -> None:
    asked = terminal("run", "--no-watch")
    asked.see("details ")
    asked.type("\x04")
    asked.see("not allowed; held")
    assert approved(home) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_question_and_the_kernel(home: Home, terminal: Open, number: signal.Signals) -> None:
    asked = terminal("run", "--no-watch")
    asked.see("details ")
    asked.process.send_signal(number)
    assert asked.ended() == 130
    assert approved(home) == {}


def test_a_signal_just_before_the_answer_is_read_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python handler has not run then, and a read of the terminal would not return for it."""
    terminal, inner = os.openpty()
    turns: list[list[object]] = []

    def wait(reading: list[object], *others: list[object]) -> tuple[list[object], ...]:
        wake = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wake)
        os.write(*((wake, b"\0") if not turns else (terminal, b"y\n")))
        turns.append(select.select(reading, *others)[0])
        return turns[-1], [], []

    with open(inner) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(approval_prompt, "select", SimpleNamespace(select=wait))
        assert approval_prompt._read_line() == "y\n"
        assert [stdin in turn for turn in turns] == [False, True]
    assert signal.set_wakeup_fd(-1) == -1
    os.close(terminal)


def test_approve_on_a_terminal_asks(home: Home, start: Start, terminal: Open) -> None:
    start("--headless", "--no-watch").wait_for("MK0412")
    asked = terminal("approve", "mailer")
    asked.see("details ")
    asked.type("n\r")
    asked.see("not allowed; held")
    assert asked.ended() == 1
    again = terminal("approve", "mailer")
    again.see("details ")
    again.type("y\r")
    assert again.ended() == 0
    assert approved(home) == {"mailer": "2.0"}


def test_approve_in_the_console_shows_first_and_approves_when_repeated(home: Home, terminal: Open) -> None:
    screen = terminal("run", "--no-watch")
    screen.see("Allow")
    screen.type("n\r")
    screen.see("mk>")
    screen.type("approve mailer\r")
    screen.see("to allow this, enter it once more: approve mailer")
    home.write("mailer.py", mailer(more=', "other.example.com:1"'))
    screen.type("approve mailer\r")
    screen.see(r"other\.example\.com:1")
    screen.see("to allow this, enter it once more: approve mailer")
    assert approved(home) == {}
    screen.type("approve mailer\r")
    screen.see("allowed, remembered")
    assert approved(home) == {"mailer": "2.0"}
