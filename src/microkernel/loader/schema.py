"""Schemas of tables: mappings of keys to checks, as data.

A check takes a value and its location and returns the value to use; it raises errors made by ``Where``. Manifests and
the configuration are both read by such schemas.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from microkernel.errors import KernelError
from microkernel.loader.display import display_path

if TYPE_CHECKING:
    from packaging.requirements import Requirement

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Where:
    """A key in a file, and the class of errors about it."""

    path: str
    error: type[KernelError]
    key: str = ""

    def below(self, key: str) -> Where:
        return replace(self, key=f"{self.key}.{key}" if self.key else key)

    def item(self, number: int) -> Where:
        return replace(self, key=f"{self.key}[{number}]")

    def wrong_type(self, expected: str, value: object, suggestion: str = "") -> KernelError:
        return self.error(
            "MK0110",
            path=display_path(self.path),
            key=self.key,
            wanted=expected,
            got=in_words(value),
            suggestion=suggestion,
        )

    def unknown(self, key: str, known: Iterable[str]) -> KernelError:
        suggestion = did_you_mean(key[:40], known, self)
        return self.error("MK0109", path=display_path(self.path), key=self.below(key[:100]).key, suggestion=suggestion)


Check = Callable[[Any, Where], Any]
Schema = Mapping[str, Check]


# Characters of a version, and of a requirement; and bytes or a count, in 64 bits with a sign.
_LONGEST_VERSION = 128
_LONGEST_REQUIREMENT = 512
_LARGEST = 2**63 - 1


# Names that keys had before 0.1 was released. They are not accepted, but the error suggests the name of today.
_FORMER_NAMES = {
    "insist": "kill_grace",
    "block": "full_mailbox_timeout",
    "kept": "kernel_memory",
    "shared": "shared_memory",
}


def did_you_mean(word: str, known: Iterable[str], where: Where | None = None) -> str:
    """Return ``; did you mean 'isolation'?``, or an empty string if no known name is similar.

    If the names are keys of the table at ``where``, the suggestion is the full key, such as ``limits.memory``.
    """
    names = list(known)
    today = _FORMER_NAMES.get(word)
    near = [today] if today in names else get_close_matches(word, names, n=1)
    return f"; did you mean {where.below(near[0]).key if where else near[0]!r}?" if near else ""


def in_words(value: object) -> str:
    """Describe a TOML value within a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}" if isinstance(value, float) or abs(value) <= _LARGEST else "a number over 64 bits"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:39] + '…'!r}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    return "a date or time" if isinstance(value, date | time) else f"a value of the type {type(value).__name__}"


# Checks


def anything(value: Any, where: Where) -> Any:  # noqa: ARG001
    return value


def text(value: Any, where: Where) -> str:
    if not isinstance(value, str):
        raise where.wrong_type("a text", value)
    return value


def word(value: Any, where: Where) -> str:
    """Check a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise where.wrong_type("a text that is not empty", value)
    return value


def flag(value: Any, where: Where) -> bool:
    if not isinstance(value, bool):
        raise where.wrong_type("true or false", value)
    return value


def _is_number(value: Any, limit: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= limit


def number(limit: int) -> Check:
    """Return a check for a number from 0 to ``limit``."""

    def check(value: Any, where: Where) -> float:
        if not _is_number(value, limit):
            raise where.wrong_type(f"a number from 0 to {limit}", value)
        return float(value)

    return check


def seconds(value: Any, where: Where) -> float:
    if not _is_number(value, sys.float_info.max):
        raise where.wrong_type("a number of seconds, 0 or more", value)
    return float(value)


def integer(least: int) -> Check:
    """Return a check for an integer of at least ``least``."""

    def check(value: Any, where: Where) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _LARGEST:
            raise where.wrong_type(f"a whole number, {least} or more", value)
        return value

    return check


_SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,19})?)\s{0,9}(B|[KMGT]B|[KMGT]iB)", re.IGNORECASE)
_POWERS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size(value: Any, where: Where) -> int:
    """Check a size in bytes: an integer, or a text such as ``256MiB`` (powers of 1024) or ``1GB`` (powers of 1000)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise where.wrong_type('a number of bytes, or a size such as "256MiB"', value)
    unit = match[2].lower()
    given = int(float(match[1]) * (1024 if "i" in unit else 1000) ** _POWERS[unit[0]])
    if given > _LARGEST:
        raise where.wrong_type("at most 8388607 TiB", value)
    return given


def one_of(*choices: str) -> Check:
    expected = " or ".join(f'"{choice}"' for choice in choices)

    def check(value: Any, where: Where) -> str:
        if value not in choices:
            suggestion = did_you_mean(value[:40], choices) if isinstance(value, str) else ""
            raise where.wrong_type(expected, value, suggestion)
        return str(value)

    return check


def list_of(item: Check, expected: str) -> Check:
    """Return a check for a list, which gives a tuple. Errors name a wrong item by its number."""

    def check(value: Any, where: Where) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise where.wrong_type(expected, value)
        return tuple(item(each, where.item(number)) for number, each in enumerate(value))

    return check


def timestamp(value: Any, where: Where) -> float:
    """Check a TOML date-time with a zone. Returns seconds since 1970."""
    if not isinstance(value, datetime) or value.tzinfo is None or value.timestamp() < 0:
        raise where.wrong_type("a time of day with its zone, not before 1970, such as 2026-01-01T00:00:00Z", value)
    return value.timestamp()


def version(value: Any, where: Where) -> str:
    from packaging.version import InvalidVersion, Version  # slow to load, so only when needed

    if len(text(value, where)) > _LONGEST_VERSION:
        raise where.wrong_type(f"a version of at most {_LONGEST_VERSION} characters", value)
    try:
        return str(value).strip() if Version(value) else ""
    except InvalidVersion:
        raise where.wrong_type('a version such as "1.2.0"', value) from None


def _requirement(value: Any, where: Where) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    _check_length(value, where)
    try:
        return Requirement(value)
    except (InvalidRequirement, RecursionError):  # brackets in a marker
        raise where.error("MK0124", requirement=value) from None


def _check_length(value: Any, where: Where) -> None:
    if len(text(value, where)) > _LONGEST_REQUIREMENT:
        raise where.wrong_type(f"a requirement of at most {_LONGEST_REQUIREMENT} characters", value)


def dependency(value: Any, where: Where) -> str:
    """Check a requirement of a package, as pip reads it. Raises MK0124."""
    _requirement(value, where)
    return str(value)


def plugin_requirement(value: Any, where: Where) -> str:
    """Check a requirement of a plugin: a name and versions only. Raises MK0124."""
    expected = _requirement(value, where)
    if expected.url or expected.extras or expected.marker:
        raise where.error("MK0124", requirement=value)
    return str(value)


def python_versions(value: Any, where: Where) -> str:
    """Check versions of Python, such as ``>=3.11``. Raises MK0124."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    _check_length(value, where)
    try:
        SpecifierSet(value)
    except InvalidSpecifier:
        raise where.error("MK0124", requirement=value) from None
    return str(value)


def table(schema: Schema) -> Check:
    """Return a check for a table of known keys. Raises MK0109 for an unknown key."""

    def check(value: Any, where: Where) -> dict[str, Any]:
        return read_table(value, schema, where)

    return check


def tables(item: Check) -> Check:
    """Return a check for a table whose keys are names."""

    def check(value: Any, where: Where) -> dict[str, Any]:
        return {key: item(each, where.below(key)) for key, each in free_table(value, where).items()}

    return check


def object_of(kind: Callable[..., T], read: Check) -> Callable[[Any, Where], T]:
    """Return a check that makes an object of ``kind`` from the table that ``read`` returns, with a field for each
    key."""

    def check(value: Any, where: Where) -> T:
        return kind(**as_fields(read(value, where)))

    return check


def free_table(value: Any, where: Where) -> dict[str, Any]:
    """Check a table with any keys."""
    if not isinstance(value, dict):
        raise where.wrong_type("a table", value)
    for key in value:
        if not isinstance(key, str):  # possible in a program, not in TOML
            raise where.below(str(key)).wrong_type("a table whose keys are texts", key)
    return value


def read_table(value: Any, schema: Schema, where: Where) -> dict[str, Any]:
    """Check a table. All keys are checked before any value, because a misspelt key is the likelier mistake."""
    given = free_table(value, where)
    for key in given:
        if key not in schema:
            raise where.unknown(key, schema)
    return {key: schema[key](each, where.below(key)) for key, each in given.items()}


def as_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys as names of fields: ``data.read`` becomes ``data_read``."""
    return {key.replace("-", "_").replace(".", "_"): value for key, value in values.items()}
