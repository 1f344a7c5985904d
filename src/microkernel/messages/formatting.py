"""Insert fields into message texts, so that raise sites can pass values unformatted."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from microkernel.errors import valid_text

# Fields that end a text and contain their separator. A missing one is shown as an empty string.
OPTIONAL = frozenset({"said", "where", "suggestion", "cure"})

_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROL |= {code: f"\\u{code:04x}" for code in (*_BIDI, 0x2028, 0x2029)}
_CONTROL |= {ord("\t"): " ", ord("\n"): " ", ord("\r"): " "}


# Han characters and full-width punctuation.
_CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


class _Missing(str):
    """Placeholder for a field that was not given; its value is the name of the field."""


def plain(text: str) -> str:
    """Return the text as one line of valid Unicode without control characters.

    Text from plugins must not be able to control the operator's terminal.
    """
    return valid_text(text.translate(_CONTROL))


def number(value: float) -> str:
    """Format a float for people: 2.0 and 0.25 unchanged; 30.0 as 30, 0.12345 as 0.12, 2.3456 as 2.3, 123.456 as 123."""
    exact = repr(value).removesuffix(".0") if abs(value) >= 10 else repr(value)
    if len(exact) <= 4:
        return exact
    size = abs(value)
    if size < 1 or size >= 1e15:
        return f"{value:.2g}"
    return f"{value:.1f}" if size < 100 else f"{value:.0f}"


def _joined(left: str, right: str) -> str:
    """Join two parts of a text. A space is dropped if it would be between two Chinese characters, because templates
    have it for values in Latin letters."""
    if right[:1] == " " and _CHINESE.match(left[-1:]) and _CHINESE.match(right[1:2]):
        right = right[1:]
    elif left[-1:] == " " and _CHINESE.match(left[-2:-1]) and _CHINESE.match(right[:1]):
        left = left[:-1]
    return left + right


def _broken(value: object) -> str:
    return f"<{type(value).__name__}>"


class Formatter(string.Formatter):
    """``str.format`` for messages, which never raises for a missing field, None, or a value that its format rejects.

    None is shown as a dash, a list with ``separator`` between its items, and a float rounded unless a format is given.
    ``translate`` takes the name and value of a field and returns the value to show.
    """

    def __init__(self, translate: Callable[[str, Any], Any] | None = None, separator: str = ", ") -> None:
        self._translate = translate
        self._separator = separator

    def fill(self, template: str, fields: Mapping[str, Any]) -> str:
        return self.vformat(template, (), fields)

    def vformat(self, format_string: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        text = ""
        for literal, name, spec, conversion in self.parse(format_string):
            text = _joined(text, literal)
            if name is not None:
                value = self.convert_field(self.get_value(name or "0", args, kwargs), conversion)
                text = _joined(text, self.format_field(value, spec or ""))
        return text

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ARG002
        name = str(key)
        value = kwargs.get(name)
        if name not in kwargs or (value is None and name in OPTIONAL):
            return _Missing(name)
        return self._translate(name, value) if self._translate else value

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if value is None or isinstance(value, _Missing):
            return value
        try:
            return super().convert_field(value, conversion)
        except Exception:  # a message about a broken object must not break on it
            return _broken(value)

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, _Missing):
            return "" if value in OPTIONAL else f"<{value}>"
        if format_spec and value is not None:
            try:
                return plain(format(value, format_spec))
            except (TypeError, ValueError):
                pass  # the value does not fit the placeholder's format; shown as it is
        return self._show(value)

    def _show(self, value: Any) -> str:
        if value is None:
            return "—"
        if isinstance(value, float):
            return number(value)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._separator.join(self._show(item) for item in value)
        try:
            return plain(str(value))
        except Exception:
            return _broken(value)
