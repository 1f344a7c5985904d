"""Writes any value as JSON that every parser accepts."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from microkernel.errors import valid_text


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """Return the value in one line of JSON.

    Values without a JSON form are written as strings: NaN and infinities (``"NaN"``, ``"Infinity"``, ``"-Infinity"``),
    bytes (base64), times (ISO 8601) and everything else. Keys that are not strings are written as JSON; a dict in which
    two keys would then be equal becomes a list of pairs. Characters that control a terminal, or change the order of
    text, are escaped.
    """
    text = json.dumps(_plain(value), ensure_ascii=ascii_only, allow_nan=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# DEL and C1 controls, marks of direction, lines and paragraphs, invisible characters. JSON has them only in strings.
_OBEYED = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [*map(_plain, value)]
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime | date | time) else valid_text(str(value))


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _object(pairs: Mapping[Any, Any]) -> Any:
    named = {_key(key): _plain(value) for key, value in pairs.items()}
    if len(named) == len(pairs):
        return named
    return [[_plain(key), _plain(value)] for key, value in pairs.items()]


def _key(key: Any) -> str:
    if isinstance(key, str):
        return valid_text(key)
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
