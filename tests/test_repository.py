"""What a clone must be: nothing of one machine in it, scripts that start, two readmes that say the same."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# In pieces, so that this file does not name what it looks for.
STRAYS = {
    "a machine's path": rb"(?<![\w.$}~])/" + rb"(?:root|work)" + rb"/",
    "a package index": rb"https?://[^\s\"'<>]*/" + rb"simple(?![\w-])",
    "a registry's host": b"|".join([rb"files\.python" + b"hosted", rb"\bpy" + rb"pi\.org/", rb"registry\.npm" + b"js"]),
    "a resolved download": rb'"resolved"\s*:\s*"' + rb"http",
}


def repository_files() -> list[Path]:
    """All that is tracked or would be by the next ``git add``."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = (ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def strays_in(text: bytes) -> list[str]:
    found = ((what, match) for what, pattern in STRAYS.items() for match in re.finditer(pattern, text))
    return [f"line {_line(text, match)}: {what}: {os.fsdecode(match.group())}" for what, match in found]


def _line(text: bytes, match: re.Match[bytes]) -> int:
    return text.count(b"\n", 0, match.start()) + 1


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = {str(p.relative_to(ROOT)): strays_in(p.read_bytes()) for p in repository_files()}
    assert {path: strays for path, strays in found.items() if strays} == {}


@pytest.mark.parametrize(
    "text",
    [
        "cd /" + "root/x",
        "cwd=/" + "work/main",
        "https://mirror.example/pypi/" + "simple/",
        "https://py" + "pi.org/project/x",
        '{"resolved": "' + 'https://x"}',
    ],
)
def test_a_stray_is_found(text: str) -> None:
    assert strays_in(text.encode())


@pytest.mark.parametrize("text", ["src/work/x.py", "network/root", "https://example.com/simply", "$HOME/work/x"])
def test_what_only_looks_like_one_is_not(text: str) -> None:
    assert strays_in(text.encode()) == []


@pytest.mark.parametrize("script", ["run", ".ci/run"])
def test_scripts_are_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
CODE = {"sh", "bash", "console", "python", "toml", "json"}


def outline(markdown: str) -> list[int]:
    """The levels of the headings, in order; a ``#`` inside a code block is none."""
    return [len(mark) for mark in re.findall(r"^(#+) ", FENCE.sub("", markdown), re.MULTILINE)]


def code_blocks(markdown: str) -> list[tuple[str, list[str]]]:
    """Each block's language, and its lines less comments and docstrings: those, and plain text, are in the reader's
    language."""
    return [(kind, _code_lines(body) if kind in CODE else []) for kind, body in FENCE.findall(markdown)]


def _code_lines(body: str) -> list[str]:
    lines = (re.sub(r"(^|\s+)#( .*)?$", "", line).rstrip() for line in _without_docstrings(body))
    return [line for line in lines if line]


def _without_docstrings(body: str) -> list[str]:
    return re.sub(r'"""[^"\n]*"""', '""', body).splitlines()


@pytest.fixture
def readmes() -> tuple[str, str]:
    paths = ROOT / "README.md", ROOT / "README.zh-CN.md"
    if not all(path.exists() for path in paths):
        pytest.skip("the two readmes are not both written yet")
    return paths[0].read_text(encoding="utf-8"), paths[1].read_text(encoding="utf-8")


def test_the_readmes_have_the_same_headings(readmes: tuple[str, str]) -> None:
    assert outline(readmes[0]) == outline(readmes[1])


def test_the_readmes_show_the_same_code(readmes: tuple[str, str]) -> None:
    assert code_blocks(readmes[0]) == code_blocks(readmes[1])
