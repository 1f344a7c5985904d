"""A text that a person typed as an argument: its receiver's hint decides what it means.

It travels as an extension of MessagePack. Where nothing is asked for, it is JSON if it is any, else the text.
"""

from __future__ import annotations

import json
from typing import Any

TEXT = 2
"""The extension of MessagePack that stands for such a text: UTF-8."""


class CommandText(str):
    """As the value of an argument, or of an event's key: ``5`` is the text where a text is wanted, else the number."""

    __slots__ = ()

    @property
    def value(self) -> Any:
        """What it means where nothing is asked for."""
        try:
            return json.loads(self)
        except (ValueError, RecursionError):
            return str(self)


def from_bytes(data: bytes | memoryview) -> CommandText:
    """Never raises: the bytes may be anybody's."""
    return CommandText(bytes(data).decode("utf-8", "replace"))
