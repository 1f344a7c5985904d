"""Texts that are not valid Unicode, and paths, which may be such, in the form in which they are sent."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from microkernel.errors import valid_text

_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile("\0([0-9a-f]{2})")


def valid_texts(value: Any) -> Any:
    """Return the value, which may be a message, with the lone surrogates in every text escaped."""
    return map_texts(value, valid_text)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return the value, which may be a message, with ``change`` applied to every text, including keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {map_texts(key, change): map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [map_texts(item, change) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if names := getattr(value, "__struct_fields__", ()):
        return type(value)(**{name: map_texts(getattr(value, name), change) for name in names})
    return value


def path_to_text(path: str) -> str:
    """Return a path as a valid text that ``path_from_text`` converts back. A NUL, which no path contains, marks a byte
    that is not UTF-8."""
    return _BYTE.sub(lambda byte: f"\0{ord(byte[0]) - 0xDC00:02x}", path)


def path_from_text(text: str) -> str:
    return _ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), text) if "\0" in text else text


def path_value(path: str) -> str | bytes:
    """Return a path as a value for plugins: a str, or bytes if it is not valid Unicode. ``os.fsdecode`` accepts
    both."""
    return path if valid_text(path) == path else os.fsencode(path)
