"""A text that a person typed as an argument. The receiver's type hint decides how it is read.

It is sent as a MessagePack extension. Without a type hint it is parsed as JSON, and is the text itself if it is not
JSON.
"""

from __future__ import annotations

import json
from typing import Any

# Code of the MessagePack extension for such a text, in UTF-8.
TEXT = 2


class CommandText(str):
    """The value of a call's argument or of an event's key: ``5`` is a str where the hint is str, otherwise a number."""

    __slots__ = ()

    @property
    def value(self) -> Any:
        """The value where no type is requested."""
        try:
            return json.loads(self)
        except (ValueError, RecursionError):
            return str(self)


def from_bytes(data: bytes | memoryview) -> CommandText:
    """Decode the text. Never raises, because the bytes may come from any sender."""
    return CommandText(bytes(data).decode("utf-8", "replace"))
