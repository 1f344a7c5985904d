"""The docs say what is: their plugins start at both levels, their programs print what is written below them.

A Python block whose first line is a comment with a file's name is that file: a plugin if it has a ``class Plugin``,
a test if it is called so, else a program. A ``text`` block right below a program is what it prints. Other blocks need
only compile. All files of one document are in one folder. A TOML block is named in the same way.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

from microkernel import Kernel
from microkernel.guest import stdlib_modules
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import Limits, Manifest, Supervision
from microkernel.loader import read_config, read_manifest
from microkernel.loader.discovery import GROUP
from tools.lifecycle_diagram import diagram

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")])
TRANSLATED = sorted(ROOT.glob("docs/zh/*.md"))
DIAGRAM = re.compile(r"<!-- lifecycle: begin -->\n```mermaid\n(.*?)```\n<!-- lifecycle: end -->", re.DOTALL)

_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# ([\w./-]+\.(?:py|toml))\b")
_LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")


class Block(NamedTuple):
    document: Path
    kind: str
    text: str
    line: int
    below: str
    """The ``text`` block right below it."""

    @property
    def file(self) -> str:
        found = _NAME.match(self.text)
        return found[1] if found else ""

    @property
    def is_plugin(self) -> bool:
        return bool(self.file) and "class Plugin(" in self.text

    @property
    def is_program(self) -> bool:
        return bool(self.file) and not self.is_plugin

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks_of(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    found = list(_FENCE.finditer(text))
    for match, following in zip_longest(found, found[1:]):
        below = ""
        if following is not None and following[1] == "text" and not text[match.end() : following.start()].strip():
            below = following[2]
        yield Block(document, match[1], match[2], text.count("\n", 0, match.start()) + 1, below)


BLOCKS = [block for document in DOCUMENTS if document not in TRANSLATED for block in blocks_of(document)]
PYTHON = [block for block in BLOCKS if block.kind == "python"]
WITH_PLUGINS = [d for d in DOCUMENTS if any(block.is_plugin for block in PYTHON if block.document == d)]


def write_files(document: Path, folder: Path, *, programs: bool) -> None:
    for block in PYTHON:
        if block.document == document and block.file and (programs or block.is_plugin):
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


def compiles(text: str) -> None:
    compile(text, "<docs>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_block_compiles(block: Block) -> None:
    compiles(block.text)


@pytest.mark.parametrize("level", ["thread", "process"])
@pytest.mark.parametrize("document", WITH_PLUGINS, ids=lambda document: document.name)
def test_the_plugins_of_a_document_start(document: Path, level: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    write_files(document, folder, programs=False)
    config = KernelConfig(data_dir=str(tmp_path / "data"))
    places = sorted({str((folder / b.file).parent) for b in PYTHON if b.document == document and b.is_plugin})
    with Kernel(places, config, isolation=level) as kernel:  # type: ignore[arg-type]
        others = {info.name: (info.state, info.error) for info in kernel.list() if info.state != "active"}
        assert others.pop("ledger", ("waiting", ""))[0] == "waiting"  # the one that is not ready
        assert others == {}
        assert {info.isolation for info in kernel.list()} == {level}
        assert kernel.dead_letters() == []


@pytest.mark.parametrize("block", [block for block in PYTHON if block.is_program], ids=str)
def test_a_program_prints_what_is_written_below_it(block: Block, tmp_path: Path) -> None:
    write_files(block.document, tmp_path, programs=True)
    is_test = Path(block.file).name.startswith("test_")
    done = subprocess.run(
        [sys.executable, *(["-m", "pytest", "-q", "-p", "no:cacheprovider"] if is_test else []), block.file],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_test or done.stdout == block.below, done.stderr


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "toml"], ids=str)
def test_a_toml_block_is_read(block: Block, tmp_path: Path) -> None:
    path = tmp_path / Path(block.file).name
    path.write_text(block.text, encoding="utf-8")
    if path.name == "microkernel.toml":
        read_config(str(path))
    elif path.name == "pyproject.toml":
        assert tomllib.loads(block.text)["project"]["entry-points"].keys() == {GROUP}
    else:
        (tmp_path / "plugin.py").write_text("from microkernel import IPlugin\nclass Plugin(IPlugin): ...\n")
        assert path.name == "plugin.toml"
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("document", TRANSLATED, ids=lambda document: document.name)
def test_a_translation_has_the_same_headings_and_the_same_code(document: Path) -> None:
    ours, theirs = (path.read_text(encoding="utf-8") for path in (document, ROOT / "docs" / document.name))
    assert code_of(ours) == code_of(theirs)
    assert headings(ours) == headings(theirs)


_COMMENT = re.compile(r"^# (?![\w./-]+\.(?:py|toml)$|/// script|\[).*|(?<=\s)# .*", re.MULTILINE)


def code_of(text: str) -> list[tuple[str, str]]:
    """All blocks, without what is written for people: comments, and docstrings of one line."""
    found = _FENCE.findall(text)
    return [(kind, re.sub(r'"""[^"\n]*"""', '""', _COMMENT.sub("#", code))) for kind, code in found]


@pytest.mark.parametrize("document", [*TRANSLATED, ROOT / "README.zh-CN.md"], ids=lambda document: document.name)
def test_a_translation_says_in_chinese_what_its_code_says_to_people(document: Path) -> None:
    blocks = [(kind, code) for kind, code in _FENCE.findall(document.read_text(encoding="utf-8"))]
    told = [each for kind, code in blocks if kind in ("python", "sh", "toml") for each in told_by(kind, code)]
    assert [each for each in told if each.isascii()] == []


_CODE = re.compile(r"[\w./-]+|\[.*\]|[\w-]+ = .*|/// script|///|\"Hello, Ada!\"")


def told_by(kind: str, code: str) -> list[str]:
    """Comments and docstrings that are words and not code."""
    comments = re.findall(r"(?:^|\s)#[ ]+([^\n]*)", code)
    docstrings = re.findall(r'"""([^"]*)"""', code) if kind == "python" else []
    return [each for each in (*comments, *docstrings) if each and not _CODE.fullmatch(each)]


def headings(text: str) -> list[int]:
    return [len(mark) for mark in re.findall(r"^(#+) ", _FENCE.sub("", text), re.MULTILINE)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
    assert [link for link in targets if not leads_somewhere(document, *link)] == []


def leads_somewhere(document: Path, target: str, anchor: str) -> bool:
    path = document.parent / target if target else document
    return path.exists() and (not anchor or anchor in anchors_of(path))


def anchors_of(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_lifecycle_diagram_is_the_table() -> None:
    found = DIAGRAM.search((ROOT / "docs/design.md").read_text(encoding="utf-8"))
    assert found, "docs/design.md has no diagram between its markers"
    assert found[1] == diagram() + "\n", "print it with: .venv/bin/python -m tools.lifecycle_diagram"


PACKAGE = ROOT / "src/microkernel"
PACKAGES = {path.name for path in PACKAGE.iterdir() if path.is_dir()}


def test_every_module_is_in_the_listing_of_the_design() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    listed = set(re.findall(r"`([\w/]+\.py)`", text))
    assert modules - listed == set(), "docs/design.md does not name these modules"
    assert {name for name in listed if name.partition("/")[0] in PACKAGES} - modules == set(), "these are gone"


def test_the_design_names_functions_that_exist() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| \d+ \| [^|]*\| `([\w/]+\.py)` \| `([\w.]+)` \|", text, re.MULTILINE)
    assert len(steps) > 30, "the tables of the paths of messages are not found"
    known = {path: names_in(PACKAGE / path) for path in {path for path, _ in steps}}
    assert [(path, name) for path, name in steps if name not in known[path]] == []
    everywhere = set().union(*map(names_in, PACKAGE.rglob("*.py")))
    classes = {name.partition(".")[0] for name in everywhere if "." in name}
    named = {name for name in re.findall(r"`([A-Z]\w+\.\w+)`", text) if name.partition(".")[0] in classes}
    assert named - everywhere == set()


def names_in(path: Path) -> set[str]:
    """Return the functions and classes of a module, and ``Class.member`` for all that a class defines or sets."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{member}" for member in members_of(node)}
    return found


def members_of(definition: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


WASM = ROOT / "docs/wasm.md"
_BETWEEN = "<!-- {0}: begin -->\n(.*?)<!-- {0}: end -->"


def part(document: Path, name: str) -> str:
    found = re.search(_BETWEEN.format(name), document.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{document.name} has no {name} between its markers"
    return found[1]


def test_the_modules_of_a_guest_are_in_the_docs() -> None:
    assert _FENCE.findall(part(WASM, "modules"))[0][1].split() == list(stdlib_modules.MODULES)


def told(document: Path) -> list[tuple[str, str]]:
    return re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", part(document, "errors"), re.MULTILINE)


def test_a_guest_is_told_what_the_docs_say(tmp_path: Path) -> None:
    cases = told(WASM)
    assert len(cases) > 10
    assert told(ROOT / "docs/zh/wasm.md") == cases
    (tmp_path / "tries.py").write_text(
        "from microkernel import IPlugin, expose\n"
        "class Plugin(IPlugin):\n"
        "    def start(self): ...\n"
        "    def stop(self): ...\n"
        "    @expose\n"
        "    def attempt(self, code: str) -> str:\n"
        "        try:\n"
        "            exec(code, {})\n"
        "        except Exception as error:\n"
        "            return f'{type(error).__name__}: {error}'\n"
        "        return 'done'\n"
    )
    with Kernel(tmp_path / "tries.py", KernelConfig(data_dir=str(tmp_path / "data")), isolation="wasm") as kernel:
        assert [(code, kernel.call("tries.attempt", code, timeout=20.0)) for code, _ in cases] == cases


@pytest.mark.parametrize("kind", [Limits, Supervision, Manifest, KernelConfig], ids=lambda kind: kind.__name__)
def test_every_setting_is_in_the_docs(kind: type) -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("plugins.md", "operating.md"))
    settings = [field.name for field in dataclasses.fields(kind) if field.compare]  # the others are ours
    spelt = {name: {f"`{name}`", f"`{name.replace('_', '-')}`"} for name in settings}
    assert [name for name, spellings in spelt.items() if not any(each in text for each in spellings)] == []


CHECKED = """\
# /// script
# [tool.microkernel.permissions]
# net = ["api.example.com:443"]
# on = ["order.*"]
# ///
import os

import requests
from microkernel import IPlugin


class Plugin(IPlugin):
    def start(self) -> None:
        getattr(os, "sys" + "tem")("true")

        self.api.emit("rate.fetched")
        requests.get("https://api.example.com/rates")

    def stop(self) -> None: ...
"""


def test_mk_check_prints_what_the_docs_show(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fetch.py").write_text(CHECKED)
    (block,) = [
        block for block in BLOCKS if block.document.name == "plugins.md" and "mk check" in block.text.split("\n")[0]
    ]
    done = subprocess.run(
        [Path(sys.executable).with_name("mk"), "check", "plugins/fetch.py"],
        cwd=tmp_path,
        env={**os.environ, "MK_LANG": "en", "NO_COLOR": "1", "COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.returncode) == (block.below, 1)
