"""Usage errors of typer, in the words of the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from microkernel.cli.output import Output
from microkernel.plugins.console.kernel_commands import not_understood

_TOO_MANY = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)")
_A_NUMBER = re.compile(r"valid (int|integer|number|float)")


def report_usage_error(error: Exception, output: Output) -> int:
    """Print a usage error and return the exit code. Re-raises errors that are not typer's."""
    kind, word = type(error).__name__, output.translator.word
    if kind == "Abort":
        return 130
    if not hasattr(error, "format_message"):
        raise error
    param: Any = getattr(error, "param", None)
    parameter = (param.metavar or param.name) if param is not None else ""
    parameter = ".".join(output.translator.word_or(f"typer.{part}", part) for part in parameter.split("."))
    reason = {
        "NoSuchOption": lambda: word("usage.option", what=getattr(error, "option_name", "")),
        "MissingParameter": lambda: word("usage.missing", what=parameter),
        "BadParameter": lambda: _bad(error, word),
        "BadOptionUsage": lambda: _with_value(error, word),
    }.get(kind, lambda: _other(error, word))()
    context = getattr(error, "ctx", None)
    names = context.command_path.split()[1:2] if context is not None else []  # `mk help` takes one
    of = f" {names[0]}" if names else ""
    see = word("usage.see", command=f"mk help{of}") if of else _near(error, word)
    output.error(not_understood(reason, see))
    return 2


def _bad(error: Any, word: Callable[..., str]) -> str:
    """Return our text for a bad parameter; typer's is English and changes between versions."""
    what, message = error.param.opts[-1], str(error.message)
    _, is_choice, choices = message.rpartition(" is not one of ")
    if is_choice:
        return word("usage.choice", what=what, choices=re.findall(r"'(.*?)'", choices))
    return word("usage.number", what=what) if _A_NUMBER.search(message) else f"{what}: {message}"


def _with_value(error: Any, word: Callable[..., str]) -> str:
    """Handle an option with a value that takes none, and an option without a value that needs one."""
    has_one_too_many = "not take" in str(error.message)
    return word("usage.no_value" if has_one_too_many else "usage.value", what=error.option_name)


def _other(error: Any, word: Callable[..., str]) -> str:
    message = str(error.format_message())
    if message.startswith("Missing command"):
        return word("usage.missing", what=word("typer.COMMAND"))
    if extra := _TOO_MANY.match(message):
        return word("usage.extra", what=extra[1])
    return word("console.unknown", word=message.split("'")[1]) if message.startswith("No such command") else message


def _near(error: Any, word: Callable[..., str]) -> str:
    known = getattr(getattr(error.ctx, "command", None), "commands", {})
    near = get_close_matches("".join(str(error.format_message()).split("'")[1:2]), known, 1)
    return word("usage.near", word=near[0]) if near else word("usage.list")
