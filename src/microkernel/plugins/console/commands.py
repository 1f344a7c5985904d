"""The console's command line: parses words into commands and describes which words are possible."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microkernel.errors import KernelError

from .kernel_commands import KernelCommands, Result, not_understood
from .translator import Translator

# Existing plugins, methods and topics, by kind.
Names = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """Syntax of a command. ``usage`` follows the verb; ``wants`` names the kinds of its first words, or gives them
    literally."""

    usage: str = ""
    wants: tuple[str, ...] = ()
    least: int = 0
    most: int = 0


COMMANDS: dict[str, Command] = {
    "ps": Command("[--all]", ("--all",), 0, 0),
    "info": Command("NAME", ("plugins",), 1, 1),
    "start": Command("NAME [--reset]", ("plugins", "--reset"), 1, 2),
    "stop": Command("NAME [--cascade] [--now]", ("plugins", "--cascade", "--now"), 1, 1),
    "reload": Command("NAME | --all", ("plugins",), 0, 1),
    "kill": Command("NAME", ("plugins",), 1, 1),
    "load": Command("PATH", (), 1, 1),
    "unload": Command("NAME", ("plugins",), 1, 1),
    "approve": Command("NAME", ("plugins",), 1, 1),
    "emit": Command("TOPIC [KEY=VALUE...]", ("topics",), 1, 99),
    "call": Command("PLUGIN.METHOD [VALUE...] [KEY=VALUE...] [--timeout SECONDS]", ("methods",), 1, 99),
    "data": Command("[KEY [VALUE]]", ("keys",), 0, 2),
    "dead": Command(
        "[list [NAME] [--each] | show ID | replay ID | drop ID] [--plugin NAME] [--topic PATTERN] [--since TIME]",
        ("list|show|replay|drop", "plugins"),
        0,
        2,
    ),
    "logs": Command("[NAME]", ("plugins",), 0, 1),
    "watch": Command("[PATTERN | off]", ("topics",), 0, 1),
    "explain": Command("ID", (), 1, 1),
    "glossary": Command("[WORD]", (), 0, 1),
    "help": Command("[COMMAND]", ("commands",), 0, 1),
    "quit": Command(),
}


def split(text: str, translator: Translator) -> list[str]:
    """Split a line into words as a shell does. Raises KernelError MK0710."""
    try:
        return shlex.split(text)
    except ValueError:
        raise not_understood(translator.word("usage.quote")) from None


def command_lines(text: str) -> list[str]:
    """Split typed or pasted text into commands: one per line, unless a quotation spans lines."""
    commands, begun = [], ""
    for line in re.split(r"\r\n|\r|\n", text):
        begun = f"{begun}\n{line}" if begun else line
        if _is_whole(begun):
            commands.append(begun.strip())
            begun = ""
    return [command for command in (*commands, begun.strip()) if command]


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def unknown_command(verb: str, translator: Translator) -> KernelError:
    """Return the error for an unknown command, with the nearest known one."""
    near = difflib.get_close_matches(verb, COMMANDS, 1)
    suggestion = translator.word("usage.near", word=near[0]) if near else translator.word("usage.list")
    return not_understood(translator.word("console.unknown", word=verb), suggestion)


class Commands:
    """Parses and runs commands. ``own`` are the commands that exist only in the console."""

    def __init__(self, verbs: KernelCommands, translator: Translator, own: Mapping[str, Callable[..., Result]]) -> None:
        self._translator = translator
        self._ways: dict[str, Callable[..., Result]] = {
            **{verb: getattr(verbs, verb) for verb in COMMANDS if hasattr(verbs, verb)},
            **own,
        }

    def do(self, words: Sequence[str]) -> Result:
        """Run a command. Raises KernelError."""
        verb, rest = words[0], list(words[1:])
        command = COMMANDS.get(verb)
        if command is None:
            raise unknown_command(verb, self._translator)
        options = _take_options(rest, command)
        if not command.least <= len(rest) <= command.most or not options.keys() <= _options_of(command).keys():
            raise not_understood(self._translator.word("usage.form", form=f"{verb} {command.usage}".strip()))
        if "timeout" in options:
            options["timeout"] = self._seconds(options["timeout"])
        return self._ways[verb](*rest, **options)

    def _seconds(self, word: str) -> float:
        try:
            return float(word)
        except ValueError:
            raise not_understood(self._translator.word("usage.seconds", word=word)) from None


def _options_of(command: Command) -> dict[str, bool]:
    """Return the options that the usage of a command names, and whether each takes a value."""
    return {name: bool(value) for name, value in re.findall(r"--([a-z]+)( [A-Z]+)?", command.usage)}


def _take_options(words: list[str], command: Command) -> dict[str, Any]:
    options: dict[str, Any] = {}
    with_value = {f"--{name}" for name, takes_value in _options_of(command).items() if takes_value}
    for word in [word for word in words if word.startswith("--")]:
        index = words.index(word)
        if word in with_value and index + 1 < len(words):
            options[word[2:]] = words.pop(index + 1)
        else:
            options[word[2:]] = True
        words.pop(index)
    return options
