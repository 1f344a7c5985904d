"""What messages and pages tell a reader to type or to look for is there: commands, options, columns, keys."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main

from microkernel.cli.commands import app
from microkernel.kernel.config import PluginConfig
from microkernel.loader.shared_tables import LIMITS

ROOT = Path(__file__).resolve().parent.parent
CATALOGS = ROOT / "src/microkernel/messages"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_COMMAND = re.compile(
    r"(?<![\w/.-])mk(?P<options>(?: --(?:kernel|config)[ =][\w./<>-]+)*)"
    r" (?P<verb>[a-z]+)(?P<rest>[^`\n|;·,，。：；]*)"
)
_OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
_COLUMN = re.compile(r"`mk (?P<verb>\w+)`[^.。]*?(?:columns?|列) `(?P<name>[^`]+)`")
_LIMIT = re.compile(r"`limits\.(\w+)")
_PLUGIN_TABLE = re.compile(r"\[plugin\.[\w<>]+\.(\w+)\]")


def texts() -> Iterator[tuple[str, str]]:
    """What people read, by where it stands."""
    for language in ("en", "zh"):
        for id, entry in tomllib.loads((CATALOGS / f"{language}.toml").read_text("utf-8")).items():
            yield f"{language}.toml {id}", "\n".join(map(str, entry.values()))
        ui: Mapping[str, Any] = tomllib.loads((CATALOGS / f"ui_{language}.toml").read_text("utf-8"))
        for table, words in ui.items():
            yield f"ui_{language}.toml [{table}]", "\n".join(map(str, words.values()))
    for page in PAGES:
        yield page.name, page.read_text("utf-8")


TEXTS = dict(texts())


def code_of(text: str) -> Iterator[str]:
    """What is marked as code, and each line of a block of commands."""
    for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (line.partition("#")[0] for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", text)


def named_commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command with the rest of its line; the verb of one that is not marked as code has to be one."""
    for code in code_of(text):
        for found in _COMMAND.finditer(code):
            yield found["verb"], found["options"] + found["rest"]
    plain = re.sub(r"`[^`]*`", "", text)
    for found in _COMMAND.finditer(plain):
        if found["verb"] in COMMANDS:
            yield found["verb"], found["options"] + found["rest"]


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = dict(GROUP.commands)


def wrong_in(verb: str, rest: str) -> str:
    """What is wrong with a command and the rest of its line; empty if nothing is."""
    if verb not in COMMANDS:
        return f"mk {verb}"
    known = {"--help"} | _options(GROUP) | _options(COMMANDS[verb])
    inner = getattr(COMMANDS[verb], "commands", {})
    word = re.match(r" ([a-z]+)\b", rest)
    if inner and word and word[1] not in inner:
        return f"mk {verb} {word[1]}"
    known |= {option for command in inner.values() for option in _options(command)}
    return next((f"mk {verb} {option}" for option in _OPTION.findall(rest) if option not in known), "")


def test_commands_that_are_named_are_there_with_their_options() -> None:
    named = [(where, *command) for where, text in TEXTS.items() for command in named_commands(text)]
    assert [(where, wrong) for where, verb, rest in named if (wrong := wrong_in(verb, rest))] == []
    assert len({verb for _, verb, _ in named}) > 15


def test_columns_that_are_named_are_shown() -> None:
    words = {code: tomllib.loads((CATALOGS / f"ui_{code}.toml").read_text("utf-8")) for code in ("en", "zh")}
    named = [(where, found) for where, text in TEXTS.items() for found in _COLUMN.finditer(text)]
    shown = {where: words["zh" if "zh" in where else "en"] for where, _ in named}
    assert [found[0] for where, found in named if found["name"] not in shown[where][found["verb"]].values()] == []
    assert named


def test_keys_of_the_configuration_that_are_named_are_taken() -> None:
    limits = {(where, name) for where, text in TEXTS.items() for name in _LIMIT.findall(text)}
    tables = {(where, name) for where, text in TEXTS.items() for name in _PLUGIN_TABLE.findall(text)}
    assert [(where, name) for where, name in limits if name not in LIMITS] == []
    assert [(where, name) for where, name in tables if name not in _fields(PluginConfig)] == []
    assert len(limits) > 20


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
