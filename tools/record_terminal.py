"""Record the console at work, as the pictures that the two READMEs show.

Starts ``mk run`` on three small plugins in a terminal of tmux, types the commands of ``SESSION``, waits for what each
has to show, and renders the screen as an SVG file. Nothing in a picture is made up: run it again after a change of
what the console prints.

    .venv/bin/python -m tools.record_terminal

It writes ``docs/console.svg`` and ``docs/zh/console.svg``. It needs tmux, and rich from the extra ``console``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {"en": ROOT / "docs/console.svg", "zh": ROOT / "docs/zh/console.svg"}

COLUMNS, LINES = 118, 40
PATIENCE = 60.0  # seconds that a step may take on a busy machine

PLUGINS = {
    "shop.py": """\
from microkernel import IPlugin, expose


class Plugin(IPlugin):
    def __init__(self, api):
        self.sold = 0

    def start(self): ...

    @expose
    def sell(self, count: int) -> int:
        self.sold += count
        return self.sold

    def stop(self): ...
""",
    "parser.py": """\
from microkernel import IPlugin, on


class Plugin(IPlugin):
    def start(self): ...

    @on("page.found")
    def parse(self, text: str):
        while text == "loop":
            pass

    def stop(self): ...
""",
    "thumbs.py": """\
# /// script
# [tool.microkernel]
# isolation = "sandbox"
# ///
from microkernel import IPlugin, expose


class Plugin(IPlugin):
    def start(self): ...

    @expose
    def shrink(self, picture: bytes) -> bytes:
        return picture[::2]

    def stop(self): ...
""",
}

CONFIGURATION = """\
name = "shop"
plugins = ["plugins"]

[plugin.parser.limits]
handler = 0.5
max_deliveries = 2
"""

# Colours of a dark terminal: background, foreground, the eight plain colours, the eight bright ones.
_PLAIN = [(69, 71, 90), (243, 139, 168), (166, 227, 161), (249, 226, 175)]
_PLAIN += [(137, 180, 250), (245, 194, 231), (148, 226, 213), (186, 194, 222)]
THEME = TerminalTheme((30, 30, 46), (205, 214, 244), _PLAIN, _PLAIN)

# rich's own template loads a font from the network; this one takes the reader's.
TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK SC", monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Terminal:
    """A terminal of tmux: type into it, wait for what it shows, read its screen with the colours."""

    def __init__(self, socket: str) -> None:
        self._tmux = ["tmux", "-L", socket, "-f", os.devnull]

    def tmux(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True).stdout

    def type(self, line: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-e")

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Wait until ``pattern`` is on the screen ``count`` times; raise TimeoutError if it does not come."""
        deadline = time.monotonic() + PATIENCE
        while len(re.findall(pattern, self.tmux("capture-pane", "-p"))) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern!r} did not appear {count} times:\n{self.screen()}")
            time.sleep(0.05)


@contextmanager
def terminal(folder: Path, language: str) -> Iterator[Terminal]:
    """A shell in ``folder``, with ``mk`` on its PATH and all state below the folder."""
    screen = Terminal(f"mk-picture-{os.getpid()}")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MK_LANG": language,
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "PS1": "$ ",
    }
    assignments = [f"{name}={value}" for name, value in environment.items()]
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    screen.tmux("new-session", "-d", *size, "-c", str(folder), "env", "-i", *assignments, "sh", "-i")
    try:
        yield screen
    finally:
        screen.tmux("kill-server")


def record(folder: Path, language: str) -> str:
    """Play the session in ``folder`` and return the last screen."""
    (folder / "plugins").mkdir()
    for name, source in PLUGINS.items():
        (folder / "plugins" / name).write_text(source)
    (folder / "microkernel.toml").write_text(CONFIGURATION)
    (folder / "runtime").mkdir(mode=0o700)
    with terminal(folder, language) as screen:
        for line, wait in session(folder, screen):
            if line:
                screen.type(line)
            wait()
        picture = screen.screen()
        screen.tmux("send-keys", "C-d")
        screen.wait_for(r"(?m)^\$ *$")
    return picture


def session(folder: Path, screen: Terminal) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is typed (nothing, for a file that is saved), and what to wait for after it."""

    def shows(pattern: str, count: int = 1) -> Callable[[], None]:
        return lambda: screen.wait_for(pattern, count)

    yield "", shows(r"\$")
    yield "mk run", shows(r"✓ \w+ +— ", 3)
    yield "call shop.sell 3", shows(r"(?m)^3$")
    yield "emit page.found text=loop", shows("MK0613")
    yield "", shows("✓ parser", 3)
    shop = folder / "plugins/shop.py"
    shop.write_text(shop.read_text().replace("+= count", "+= count +"))
    yield "", shows("MK0305")
    yield "call shop.sell 2", shows(r"(?m)^5$")
    yield "dead", shows(r"(?m)^ *1 .*page\.found")
    yield "ps", shows(r"(?m)^thumbs .*sandbox")


def render(screen: str) -> str:
    """The screen as an SVG file, without the empty lines at its end."""
    text = Text.from_ansi(screen.rstrip())
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(text, soft_wrap=True)
    return console.export_svg(title="", theme=THEME, code_format=TEMPLATE, unique_id="console")


def main() -> None:
    for language, path in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            path.write_text(render(record(Path(folder), language)), encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
