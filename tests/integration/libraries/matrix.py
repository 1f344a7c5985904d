"""Use each library at each level, and show the table: ``python -m tests.integration.libraries.matrix [library ...]``.

``--write`` puts it into docs/libraries.md and docs/zh/libraries.md. Real results only: a cell is what just happened.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from microkernel import Kernel
from microkernel.errors import IsolationUnavailable, KernelError
from microkernel.kernel.config import KernelConfig
from tests.integration.libraries.uses import LIBRARIES, PURE, Library
from tests.servers import serving

ROOT = Path(__file__).resolve().parents[3]
DOCS = {"en": ROOT / "docs" / "libraries.md", "zh": ROOT / "docs" / "zh" / "libraries.md"}
BEGIN, END = "<!-- libraries: begin -->", "<!-- libraries: end -->"
_LIMITS = {"load": 120.0}
_SECONDS = 120.0
_PLUGIN = """
import os
from microkernel import IPlugin, expose


class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        if self.api.isolation in ("thread", "process"):  # the other levels begin there
            self.api.data_dir.mkdir(parents=True, exist_ok=True)
            os.chdir(self.api.data_dir)
    def stop(self): pass

    @expose
    def use(self, port: int, ws_port: int) -> bool:
        space = {"port": port, "ws_port": ws_port, "__name__": __name__}
        exec(CODE, space)
        return bool(space["result"])

CODE = %s
"""


@dataclass(frozen=True)
class Outcome:
    """``result``: ``pass``, ``refused``, ``fails`` or ``not here``. ``fault`` is what was raised."""

    result: str
    fault: str = ""


@contextmanager
def socket_server() -> Iterator[int]:
    """A web socket that sends back what comes, where its library is installed; else port 1, which is closed."""
    try:
        from websockets.sync.server import serve
    except ImportError:
        yield 1
        return
    with serve(lambda socket: socket.send(socket.recv()), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def use(library: Library, level: str, ports: tuple[int, int]) -> Outcome:
    """Have a plugin use it at this level, which may connect to these ports of this machine and to nothing else."""
    if any(_version(package) is None for package in library.packages):
        return Outcome("not here")
    with tempfile.TemporaryDirectory(prefix="libraries-") as name:
        path = Path(name) / "plugin.py"
        path.write_text(_source(library), encoding="utf-8")
        config = KernelConfig(data_dir=str(Path(name) / "data"), limits=_LIMITS)
        grants = {"plugin": {"net": [f"127.0.0.1:{port}" for port in ports]}}
        try:
            with Kernel(path, config, isolation=level, grants=grants) as kernel:  # type: ignore[arg-type]
                done = kernel.call("plugin.use", *ports, timeout=_SECONDS)
        except IsolationUnavailable:
            return Outcome("not here")
        except KernelError as error:
            is_meant = level in library.refused and "MK0419" in str(error)
            return Outcome("refused" if is_meant else "fails", str(error))
    return Outcome("pass" if done else "fails", "" if done else "another result than was expected")


def _source(library: Library) -> str:
    wanted = [f'# /// script\n# dependencies = ["{package}"]\n# ///\n' for package in library.packages[:1]]
    return "".join(wanted) + _PLUGIN % repr(library.code)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def run_level(level: str, names: list[str]) -> dict[str, Outcome]:
    """All of them at one level, in this process."""
    chosen = [each for each in LIBRARIES if level in each.levels and (not names or each.name in names)]
    with serving() as port, socket_server() as ws_port:
        return {each.name: use(each, level, (port, ws_port)) for each in chosen}


def run_in_process(level: str, names: list[str]) -> dict[str, Outcome]:
    """Run the libraries in a separate process, because at ``thread`` a library is loaded into the calling process."""
    command = [sys.executable, "-m", "tests.integration.libraries.matrix", "--level", level, *names]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name: Outcome(*found) for name, found in json.loads(done.stdout.splitlines()[-1]).items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run libraries", description="Use widely used libraries at each level.")
    parser.add_argument("--write", action="store_true", help="put the table into docs/libraries.md, both languages")
    parser.add_argument("--level", choices=PURE, help="this level alone, as JSON")
    parser.add_argument("names", nargs="*", help="these libraries only")
    options = parser.parse_args()
    if options.level:
        found = run_level(options.level, options.names)
        print(json.dumps({name: [each.result, each.fault] for name, each in found.items()}))
        return 0
    outcomes = {level: run_in_process(level, options.names) for level in PURE}
    failures = [f"! {name} at {level}: {each.fault}" for level in PURE for name, each in outcomes[level].items()
                if each.result == "fails"]  # fmt: skip
    print("\n".join(failures))
    if options.write and not options.names:
        write(outcomes)
    else:
        print(table(outcomes, "en"))
    return 1 if failures else 0


# The table

_WORDS = {
    "pass": "通过", "refused": "按设计拒绝", "fails": "失败", "not here": "此处没有", "library": "库", "use": "用法",
    "version": "版本", "part of Python": "Python 自带",
}  # fmt: skip
Outcomes = Mapping[str, Mapping[str, Outcome]]


def word(text: str, language: str) -> str:
    return _WORDS[text] if language == "zh" else text


def table(outcomes: Outcomes, language: str) -> str:
    """A row for each library, and below the table why what is refused is refused, and what fails."""
    head = [*(word(each, language) for each in ("library", "version", "use")), *(f"`{level}`" for level in PURE)]
    rows = [_row(each, outcomes, language) for each in LIBRARIES if _was_run(each, outcomes)]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join([*lines, "", *_remarks(outcomes, language)]).rstrip()


def _was_run(library: Library, outcomes: Outcomes) -> bool:
    return any(library.name in found for found in outcomes.values())


def _row(library: Library, outcomes: Outcomes, language: str) -> list[str]:
    shown = (library.packages and _version(library.packages[0])) or word("part of Python", language)
    cells = [_cell(outcomes[level].get(library.name), language) for level in PURE]
    return [library.name, shown, library.use[language == "zh"], *cells]


def _cell(outcome: Outcome | None, language: str) -> str:
    return "—" if outcome is None else word(outcome.result, language)


def _remarks(outcomes: Outcomes, language: str) -> Iterator[str]:
    colon = "：" if language == "zh" else ": "
    for library in LIBRARIES:
        for level in PURE:
            outcome = outcomes[level].get(library.name, Outcome("pass"))
            if outcome.result == "refused":
                yield f"- {library.name}, `{level}`{colon}{library.refused[level][language == 'zh']}"
            elif outcome.result == "fails":
                yield f"- {library.name}, `{level}`{colon}`{outcome.fault.splitlines()[0]}`"


def section(outcomes: Outcomes, language: str) -> str:
    machine = f"Python {platform.python_version()}, Linux, {platform.machine()}"
    return "\n\n".join([BEGIN, f"{machine}.", table(outcomes, language), END])


def write(outcomes: Outcomes) -> None:
    for language, path in DOCS.items():
        text = path.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        path.write_text(before + section(outcomes, language) + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
