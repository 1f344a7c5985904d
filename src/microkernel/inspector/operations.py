"""Operations of an inspector on one text. Their results are JSON values, because they cross a process boundary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from microkernel.inspector.sources import NotParsed, facts_of

# Tag of a list in an answer. A date is a list too; its tag is the name of its type.
LIST = "list"
_DATES = ("datetime", "date", "time")


def perform(operation: str, arguments: Sequence[Any]) -> Any:
    """Run an operation. Raises NotParsed."""
    return _OPERATIONS[operation](*arguments)


def _toml(text: str) -> Any:
    import tomllib

    try:
        return _tagged(tomllib.loads(text))
    except (ValueError, RecursionError, OverflowError) as cause:
        raise NotParsed(1, str(cause) or type(cause).__name__) from None


def _tagged(value: Any) -> Any:
    """Encode dates, which JSON does not have, as tagged lists; so all lists are tagged."""
    if isinstance(value, dict):
        return {key: _tagged(each) for key, each in value.items()}
    if isinstance(value, list):
        return [LIST, *map(_tagged, value)]
    return value if isinstance(value, str | int | float) else [type(value).__name__, value.isoformat()]


def untagged(value: Any) -> Any:
    """Decode an answer of ``toml``. Raises ValueError for one that is not valid."""
    if isinstance(value, dict):
        return {_valid(key): untagged(each) for key, each in value.items()}
    if isinstance(value, list):
        return _from_list(value)
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, bool | int | float):
        return value
    raise ValueError(f"a value of type {type(value).__name__}")


def _from_list(value: list[Any]) -> Any:
    tag, rest = (value[0], value[1:]) if value else ("", [])
    if tag == LIST:
        return [untagged(each) for each in rest]
    if isinstance(tag, str) and tag in _DATES and len(rest) == 1 and isinstance(rest[0], str):
        import datetime  # imported here, because the inspector process does not need it

        return getattr(datetime, tag).fromisoformat(rest[0])
    raise ValueError("a list without a tag")


def _valid(text: str) -> str:
    text.encode()  # raises UnicodeEncodeError for lone surrogates, which no text of TOML has
    return text


def _facts(text: str) -> Any:
    facts = facts_of(text)
    return [facts.imports, facts.plugin, facts.line]


def _inspect(data: str, file: str, name: str, forbidden: Sequence[str]) -> Any:
    """Audit a file. ``data``: a character for each byte. Imports the auditor, which most inspectors never need."""
    from microkernel.loader.auditor.source import as_json, inspect_data, inspect_source

    content = data.encode("latin-1")
    seen = inspect_source(content, file, name, forbidden) if file.endswith(".py") else inspect_data(content, file)
    return as_json(seen)


_OPERATIONS: Mapping[str, Callable[..., Any]] = {"toml": _toml, "facts": _facts, "inspect_source": _inspect}
