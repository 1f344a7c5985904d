"""Results of an audit: findings, and uses that need permissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["notice", "warn", "error"]
# From advice to problems, by the names of the message levels.
SEVERITIES: tuple[Severity, ...] = ("notice", "warn", "error")

# The severity of each finding. The message catalogs, which the loader does not import, repeat it; a test compares.
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


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column of a file, both from 1; line 0 is the whole file."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    place: Place
    id: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    # True for a name that is only imported; if it is also used, that use is reported instead.
    is_import: bool = False

    @property
    def severity(self) -> Severity:
        return LEVELS[self.id]


@dataclass(frozen=True, slots=True)
class Use:
    """A use in the source that needs a permission, such as ``emit`` of ``order.created``."""

    place: Place
    permission: str
    value: str


Seen = Finding | Use
