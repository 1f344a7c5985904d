"""Texts that are not valid Unicode, and paths, which may be such: as they travel."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from microkernel.errors import valid_text

_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile("\0([0-9a-f]{2})")


def valid_texts(value: Any) -> Any:
    """Return the value, a message too, with every text in it valid: what half a character was is escaped."""
    return map_texts(value, valid_text)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return the value, a message too, with every text in it changed, keys too."""
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
    """Return a path as a valid text, from which ``path_from_text`` gives the same path. A NUL, which no path has, marks
    a byte that is not UTF-8."""
    return _BYTE.sub(lambda byte: f"\0{ord(byte[0]) - 0xDC00:02x}", path)


def path_from_text(text: str) -> str:
    return _ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), text) if "\0" in text else text


def path_value(path: str) -> str | bytes:
    """Return a path as a value for plugins: a text, or bytes where it is none. ``os.fsdecode`` takes both."""
    return path if valid_text(path) == path else os.fsencode(path)
