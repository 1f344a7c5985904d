"""The operator's terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import runpy
import struct
import termios
from collections.abc import Callable
from functools import cache
from pathlib import Path

import microkernel
from tests.harness.waiting import eventually
from tests.security.redteam import proofs
from tests.security.redteam.model import SKIPPED, Answer, Attempt

GROUP = "terminal"


def _shown(arena, _: Answer) -> bool:
    """It came out on the operator's side."""
    with contextlib.suppress(BlockingIOError):
        arena.__dict__["_screen"] = os.read(arena.master, 4096)
    return arena.token.encode() in arena.__dict__.get("_screen", b"")


def _typed(arena, _: Answer) -> bool:
    """It waits as if the operator had typed it."""
    waiting = fcntl.ioctl(arena._slave, termios.FIONREAD, b"    ")
    return struct.unpack("i", waiting)[0] > 0


def _resized(arena, _: Answer) -> bool:
    size = fcntl.ioctl(arena._slave, termios.TIOCGWINSZ, bytes(8))
    return struct.unpack("HHHH", size)[0] == 77


def _unechoed(arena, _: Answer) -> bool:
    return not termios.tcgetattr(arena._slave)[3] & termios.ECHO


def _has_terminal(arena, answer: Answer) -> bool:
    return proofs.statistic(answer.pid, 4) != "0"


def _drives_terminal(arena, _: Answer) -> bool:
    """An escape sequence is in what a console shows: the same function as the console's own."""
    lines = eventually(lambda: [each.getMessage() for each in list(arena.records) if arena.token in each.getMessage()])
    return any("\x1b" in _plain()(line) for line in lines)


@cache
def _plain() -> Callable[[str], str]:
    """Without the package around it, which needs a library that is for people."""
    place = Path(microkernel.__file__).parent / "plugins" / "console" / "translator.py"
    return runpy.run_path(str(place))["plain"]


def _drives_log_reader(arena, _: Answer) -> bool:
    """An escape sequence is in a record of the log, as a log file or `tail` gets it."""
    return any("\x1b" in each.getMessage() for each in arena.records if arena.token in each.getMessage())


_ESCAPE = '"\\x1b]0;" + f.token + "\\x07\\x1b[2J"'

ATTEMPTS = [
    Attempt("write to the operator's terminal", "写操作者的终端",
            "open(f.terminal, 'w').write(f.token)", _shown, "landlock"),
    Attempt("write to the terminal by its descriptor in another process", "经别的进程的描述符写终端", """
name = next(n for n in os.listdir(f"/proc/{f.kernel}/fd") if os.readlink(f"/proc/{f.kernel}/fd/{n}") == f.terminal)
open(f"/proc/{f.kernel}/fd/{name}", "w").write(f.token)
""", _shown, "landlock"),
    Attempt("write to /dev/tty", "写 /dev/tty", "open('/dev/tty', 'w').write(f.token)", _shown, "landlock",
            process="session", thread="session"),
    Attempt("type into the operator's terminal", "往操作者终端里输入", """
terminal = os.open(f.terminal, os.O_RDWR | os.O_NOCTTY)
for byte in b"redteam\\n": fcntl.ioctl(terminal, 0x5412, bytes([byte]))
""", _typed, "landlock", root=True, varies=True),
    Attempt("change the terminal's size", "改终端大小", """
fcntl.ioctl(os.open(f.terminal, os.O_RDWR | os.O_NOCTTY), 0x5414, struct.pack("HHHH", 77, 77, 0, 0))
""", _resized, "landlock"),
    Attempt("switch off the terminal's echo", "关闭终端回显", """
import termios
terminal = os.open(f.terminal, os.O_RDWR | os.O_NOCTTY)
state = termios.tcgetattr(terminal)
state[3] &= ~termios.ECHO
termios.tcsetattr(terminal, termios.TCSANOW, state)
""", _unechoed, "landlock"),
    Attempt("take over the terminal as controlling process", "把终端变成自己的控制终端", """
KEPT.append(os.open(f.terminal, os.O_RDWR))
""", _has_terminal, "landlock", thread=SKIPPED),
    Attempt("print escape sequences into the console", "往控制台打印转义序列", f"print({_ESCAPE}, flush=True)",
            _drives_terminal, "output", process="output", thread=SKIPPED),
    Attempt("log escape sequences into the console", "往控制台写带转义序列的日志", f"api.log.warning({_ESCAPE})",
            _drives_terminal, "output", process="output", thread="output"),
    Attempt("say escape sequences in the console", "在控制台消息里放转义序列", f"api.say.notice({_ESCAPE})",
            _drives_terminal, "output", process="output", thread="output"),
    Attempt("put escape sequences into a log file", "往日志文件里放转义序列", f"api.log.warning({_ESCAPE})",
            _drives_log_reader, "open", wasm="open", means=(
        ("The text of a log record is stored as the plugin wrote it. The console, `mk logs` and `mk attach` remove "
        "control characters when they show it; your own log handlers that write to a terminal or a file must do so "
        "too."),
        ("日志记录的文字按插件所写原样保存。控制台、`mk logs` 和 `mk attach` 显示时会去掉控制字符；"
        "你自己的日志处理器写到终端或文件时也必须这样做。"))),
]  # fmt: skip
