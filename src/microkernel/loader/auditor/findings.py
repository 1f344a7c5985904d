"""What an audit gives: findings, and what of the permissions is used where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["notice", "warn", "error"]
SEVERITIES: tuple[Severity, ...] = ("notice", "warn", "error")
"""From what one should know to what one should mend; the words are those of the message levels."""

LEVELS: Mapping[str, Severity] = {
    "MK0801": "error",
    "MK0802": "error",
    "MK0803": "error",
    "MK0804": "warn",
    "MK0805": "warn",
    "MK0806": "error",
    "MK0807": "warn",
    "MK0808": "error",
    "MK0810": "warn",
    "MK0811": "error",
    "MK0812": "warn",
    "MK0813": "warn",
    "MK0815": "warn",
    "MK0817": "warn",
    "MK0818": "warn",
    "MK0819": "warn",
    "MK0820": "notice",
    "MK0821": "notice",
    "MK0822": "warn",
    "MK0823": "notice",
    "MK0824": "notice",
    "MK0830": "notice",
    "MK0831": "notice",
    "MK0832": "notice",
    "MK0833": "notice",
    "MK0834": "notice",
    "MK0835": "warn",
    "MK0836": "notice",
}
"""The severity of each finding. The message catalogs, which a loader does not know, say the same; a test compares."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column of a file, both from 1; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    place: Place
    id: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_import: bool = False
    """Of a name that is only brought in; where it is used, that is told instead."""

    @property
    def severity(self) -> Severity:
        return LEVELS[self.id]


@dataclass(frozen=True, slots=True)
class Use:
    """Something in the source that needs a permission: ``emit``, ``order.created``."""

    place: Place
    permission: str
    value: str


Seen = Finding | Use
