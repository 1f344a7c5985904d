"""Texts with ``{placeholders}``, and how a text is known again as one that was made from such a template."""

from __future__ import annotations

import re
import string

from microkernel.messages.glossary import glossary

_KINDS = {
    "file": r"[^\s:()]+",
    "kind": r"[\w.]+",
    "remote_type": r"[\w.]+",
    "said": r"(?:: .+?)?",
    "function": r"[^\s`]+",
    "list": r"[a-z]+(?:(?:, | and )[a-z]+)*",
    "id": r"MK\d{4}",
    "number": r"\d+",
    "signal": r"SIG[A-Z0-9+-]+",
    "plugin": r"[a-z][a-z0-9_-]*",
    "where": r"(?: \([^()]+:\d+(?: in [^()]+)?\))?",
    "cure": r"(?:(?:; | → ).+)?",
    "suggestion": r"(?:; did you mean [^?]+\?)?",
}
"""What a placeholder of this name stands for; any other stands for anything. ``state``: for a state's name."""


def words_of(template: str) -> tuple[str, ...]:
    """What stands between the placeholders."""
    return tuple(text for text, *_ in string.Formatter().parse(template) if text)


def letters_of(template: str) -> int:
    """How many letters of its own it has."""
    return sum(map(str.isalpha, "".join(words_of(template))))


def bare(template: str) -> str:
    """Without formats: what was cut out of a text has been formatted."""
    parts = string.Formatter().parse(template)
    return "".join(_escaped(text) + (f"{{{name}}}" if name else "") for text, name, _, _ in parts)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def pattern_of(template: str, flags: int = 0) -> re.Pattern[str]:
    """A regular expression for a template: ``{name}`` is a group, everything else itself."""
    pattern, seen = "", set[str]()
    for text, name, _, _ in string.Formatter().parse(template):
        pattern += re.escape(text)
        if name:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_kind(name)})"
            seen.add(name)
    return re.compile(pattern, re.DOTALL | flags)


def _kind(name: str) -> str:
    return "|".join(term.en for term in glossary() if term.state) if name == "state" else _KINDS.get(name, ".+?")
