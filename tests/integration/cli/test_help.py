"""Help is in one language, including typer's own words, and its columns are aligned."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest
import typer.main

from microkernel.cli.commands import app
from microkernel.messages.terminal_width import width

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]
OPTIONS = re.compile(r"(?<!\w)--?[a-z][\w-]*")
# What is the same in every language: names of ours, and values that are typed as they are.
SAME = re.compile(
    r"MK_KERNEL|mk|microkernel\.toml|toml|kernel|ps|thread|process|sandbox|wasm|notice|warn|error|list|show|replay|drop"
    r"|prepare|json|plugins|KB|MB|h"
)


@cache
def help_of(command: str, language: str) -> str:
    code = "import sys; from microkernel.cli import main; sys.argv[0] = 'mk'; main()"
    arguments = [command, "--help"] if command else ["--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=50, env={"MK_LANG": language, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["", "call", "dead", "run", "check", "logs", "data", "new", "explain", "wasm"])
def test_help_in_chinese_has_no_english_word(command: str) -> None:
    text = OPTIONS.sub("", help_of(command, "zh"))
    words = {word for word in re.findall(r"[A-Za-z][\w.]*", text) if not SAME.fullmatch(word)}
    assert words - {*COMMANDS} == set()


def test_columns_are_straight_where_a_character_takes_two_cells() -> None:
    lines = [line for line in help_of("call", "zh").splitlines() if line.startswith("  --")]
    left = [re.match(r"  \S+(?: \S+)? {2,}", line) for line in lines]
    assert len(lines) >= 3
    assert len({width(found[0]) for found in left if found}) == 1


@pytest.mark.parametrize("command", ["", "call", "run"])
def test_help_in_english_shows_no_types_of_python(command: str) -> None:
    text = help_of(command, "en")
    assert "Usage: mk" in text
    assert "<str>" not in text
    assert "<list" not in text
