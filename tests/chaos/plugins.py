"""The thirty plugins: fifteen kinds, each at both levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.security.attacks.support import manifest

GROUPS = 6
MEBIBYTE = 1024 * 1024
LIMITS = {"handler": 1.0, "drain": 0.1, "stop": 1.0, "kill_grace": 0.5, "mailbox": 400}
OWN_PROCESS = {"memory": 128 * MEBIBYTE, "files": 64}
OFTEN = {"intensity": 1_000_000, "backoff": 0.02, "backoff_max": 0.2}
SELDOM = {"intensity": 2, "backoff": 0.02, "backoff_max": 0.2}

_HERE = Path(__file__).parent
_SUBJECT = (_HERE / "subject.py").read_text()
_ASYNC = (_HERE / "subject_async.py").read_text().partition("# copied from here")[2]
_MADE_ASYNC = f"\nimport asyncio\nSubject = Plugin\n{_ASYNC}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a plugin is like. ``struck``: it is made to suffer; ``frail``: that is counted, and ends in quarantine."""

    name: str
    overflow: str = "block"
    struck: bool = True
    frail: bool = False
    listens: bool = True
    is_async: bool = False
    beat: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
    concurrency: int = 1


KINDS = (
    Kind("steady-a"),
    Kind("steady-b"),
    Kind("steady-c"),
    Kind("steady-d"),
    Kind("relay-a", beat=0.1),
    Kind("relay-b"),
    Kind("caller-a"),
    Kind("caller-b"),
    Kind("pool", concurrency=3),
    Kind("async", is_async=True),
    Kind("oldest", overflow="drop_oldest", limits={"mailbox": 100}),
    Kind("newest", overflow="drop_newest", limits={"mailbox": 100}, struck=False),
    Kind("rejecting", overflow="reject", limits={"mailbox": 100}),
    Kind("frail", frail=True, limits={"handler": 5.0}),
    Kind("healthy", struck=False, listens=False),
)


@dataclass(frozen=True, slots=True)
class Role:
    """One of the thirty."""

    name: str
    level: str
    kind: Kind
    topics: tuple[str, ...]

    @property
    def address(self) -> str:
        """The topic that it alone listens to."""
        return address(self.name)

    def source(self, evidence: Path, descriptor: int) -> str:
        kind = self.kind
        tables: dict[str, Any] = {
            "isolation": self.level,
            "concurrency": kind.concurrency,
            "limits": {**LIMITS, **(OWN_PROCESS if self.level == "process" else {}), **kind.limits},
            "supervision": SELDOM if kind.frail else OFTEN,
            "config": {
                "evidence": str(evidence),
                "descriptor": descriptor,
                "topics": list(self.topics),
                "overflow": kind.overflow,
                "beat": kind.beat,
                "beats": f"ledger.group-{len(self.name) % GROUPS}",
            },
        }
        return manifest(**tables) + _SUBJECT + (_MADE_ASYNC if kind.is_async else "")


def address(name: str) -> str:
    return f"ledger.to.{name}"


def cast() -> dict[str, Role]:
    """All thirty, by name; each but the healthy ones listens to two groups and to its own address."""
    roles = {}
    for level in ("thread", "process"):
        for number, kind in enumerate(KINDS):
            name = f"{level}-{kind.name}"
            groups = {number % GROUPS, (number * 5 + len(level)) % GROUPS} if kind.listens else set()
            topics = (*(f"ledger.group-{group}" for group in sorted(groups)), address(name))
            roles[name] = Role(name, level, kind, topics)
    return roles


def audience(roles: Mapping[str, Role]) -> dict[str, list[str]]:
    """Return the names of the plugins that listen to each topic."""
    topics = {topic for role in roles.values() for topic in role.topics}
    return {topic: [name for name, role in roles.items() if topic in role.topics] for topic in topics}
