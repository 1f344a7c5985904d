"""Texts with ``{placeholders}``, and patterns that recognize texts made from them."""

from __future__ import annotations

import re
import string

from microkernel.messages.glossary import glossary

# Regular expressions by the name of a placeholder; other placeholders match anything. ``state`` matches the names of
# lifecycle states.
_KINDS = {
    "file": r"[^\s:()]+",
    "kind": r"[\w.]+",
    "remote_type": r"[\w.]+",
    "said": r"(?:: .+?)?",
    "function": r"[^\s`]+",
    "choices": r'"[^"]*"(?: or "[^"]*")+',
    "list": r"[\w.-]+(?:(?:, | and )[\w.-]+)*",
    "id": r"MK\d{4}",
    "number": r"\d+",
    "signal": r"SIG[A-Z0-9+-]+",
    "plugin": r"[a-z][a-z0-9_-]*",
    "where": r"(?: \([^()]+:\d+(?: in [^()]+)?\))?",
    "cure": r"(?:; .+)?",
    "suggestion": r"(?:; .+)?",
}


def words_of(template: str) -> tuple[str, ...]:
    """Return the literal parts of a template."""
    return tuple(text for text, *_ in string.Formatter().parse(template) if text)


def letters_of(template: str) -> int:
    """Count the letters in the literal parts of a template."""
    return sum(map(str.isalpha, "".join(words_of(template))))


def bare(template: str) -> str:
    """Return the template without format specs, for values that are already formatted."""
    parts = string.Formatter().parse(template)
    return "".join(_escaped(text) + (f"{{{name}}}" if name else "") for text, name, _, _ in parts)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def pattern_of(template: str, flags: int = 0) -> re.Pattern[str]:
    """Return a regular expression that matches texts made from a template; ``{name}`` becomes a named group."""
    pattern, seen = "", set[str]()
    for text, name, _, _ in string.Formatter().parse(template):
        pattern += re.escape(text)
        if name:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_kind(name)})"
            seen.add(name)
    return re.compile(pattern, re.DOTALL | flags)


def _kind(name: str) -> str:
    return "|".join(term.en for term in glossary() if term.state) if name == "state" else _KINDS.get(name, ".+?")
