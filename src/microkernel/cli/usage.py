"""What typer refuses, in our words."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from microkernel.cli.output import Output
from microkernel.plugins.console.verbs import not_understood

_A_NUMBER = re.compile(r"valid (integer|number|float)")


def tell_usage(error: Exception, output: Output) -> int:
    """The exit code. Raises what is not typer's again."""
    kind, word = type(error).__name__, output.tongue.word
    if kind == "Abort":
        return 130
    if not hasattr(error, "format_message"):
        raise error
    param: Any = getattr(error, "param", None)
    parameter = (param.metavar or param.name) if param is not None else ""
    parameter = output.tongue.word_or(f"typer.{parameter}", parameter)
    reason = {
        "NoSuchOption": lambda: word("usage.option", what=getattr(error, "option_name", "")),
        "MissingParameter": lambda: word("usage.missing", what=parameter),
        "BadParameter": lambda: _bad(error, word),
    }.get(kind, lambda: _other(error, word))()
    context = getattr(error, "ctx", None)
    of = f" {context.info_name}" if context is not None and context.parent is not None else ""
    see = word("usage.see", command=f"mk help{of}") if of else _near(error, word)
    output.error(not_understood(reason, see))
    return 2


def _bad(error: Any, word: Callable[..., str]) -> str:
    """typer says it in English, and in other words from version to version."""
    what, message = error.param.opts[-1], str(error.message)
    _, is_choice, choices = message.rpartition(" is not one of ")
    if is_choice:
        return word("usage.choice", what=what, choices=", ".join(re.findall(r"'(.*?)'", choices)))
    return word("usage.number", what=what) if _A_NUMBER.search(message) else f"{what}: {message}"


def _other(error: Any, word: Callable[..., str]) -> str:
    message = str(error.format_message())
    if message.startswith("Missing command"):
        return word("usage.missing", what="COMMAND")
    return word("console.unknown", word=message.split("'")[1]) if message.startswith("No such command") else message


def _near(error: Any, word: Callable[..., str]) -> str:
    known = getattr(getattr(error.ctx, "command", None), "commands", {})
    near = get_close_matches("".join(str(error.format_message()).split("'")[1:2]), known, 1)
    return word("usage.near", word=near[0]) if near else word("usage.list")
