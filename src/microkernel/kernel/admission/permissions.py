"""What a plugin asks for, what was approved, and the difference. Pure.

At the levels of trust a manifest is granted as it is declared. At the confined ones everything is declared *and*
approved, but what a plugin emits and keeps on the board below its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from microkernel.kernel.admission.approval_texts import unmistakable
from microkernel.kernel.admission.limit_bounds import is_covered
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval, Level, Permissions
from microkernel.kernel.ports import Snapshot
from microkernel.wire.topics import covers

CONFINED: Final[frozenset[Level]] = frozenset({"sandbox", "wasm"})
KINDS: Final = (
    "emit", "on", "call", "data.read", "data.write", "kernel", "net", "fs.read", "fs.write", "env", "limits",
)  # fmt: skip
_OF_TOPICS = frozenset({"emit", "on", "call", "data.read", "data.write"})
_OWN = frozenset({"emit", "data.read", "data.write"})
"""What every plugin may do with names that begin with its own."""

Grant = Permissions | Literal["declared"]
"""What an operator gives: these permissions, or all that the manifest declares."""
Wish = tuple[str, str]
"""A kind of permission and what for: ``("net", "smtp.example.com:587")``."""


@dataclass(frozen=True, slots=True)
class Review:
    """What a plugin asks for beside what was approved, each a line such as ``net smtp.example.com:587``.

    ``added`` was not approved, ``removed`` was and is asked for no more. ``altered``: it was approved at this very
    ``version``, and since then its files have become others; ``changed`` are their names as far as they are known.
    ``digest`` is of the files that were looked at.
    """

    name: str
    version: str
    level: str
    path: str
    digest: str
    asked: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    approved_version: str = ""
    altered: bool = False
    changed: tuple[str, ...] = ()
    approved_path: str = ""
    """Where the plugin of this name lies that was approved, if that is another place than ``path``."""

    @property
    def is_fine(self) -> bool:
        """Nobody has to be asked."""
        return not (self.added or self.altered or self.approved_path)

    @property
    def is_held(self) -> bool:
        """Whether the plugin may not run before somebody approves. Without its higher limits it runs: with the
        defaults."""
        return self.altered or bool(self.approved_path) or any(not line.startswith("limits ") for line in self.added)

    @property
    def difference(self) -> tuple[str, ...]:
        """As `diff` writes it."""
        return (*(f"+ {line}" for line in self.added), *(f"- {line}" for line in self.removed))


def fields_of(permissions: Permissions) -> dict[str, tuple[str, ...] | None]:
    """By kind, in the order in which they are shown; None is everything."""
    return {kind: getattr(permissions, kind.replace(".", "_")) for kind in KINDS}


def of_fields(fields: Mapping[str, Iterable[str] | None]) -> Permissions:
    """The inverse; a kind that is not there grants nothing."""
    values: dict[str, Any] = {kind.replace(".", "_"): () for kind in KINDS}
    for kind, what in fields.items():
        values[kind.replace(".", "_")] = None if what is None else tuple(what)
    return Permissions(**values)


def requested(name: str, asked: Permissions) -> list[Wish]:
    """All that somebody has to approve: not what every plugin may do with its own names."""
    return [
        (kind, what)
        for kind, patterns in fields_of(asked).items()
        for what in dict.fromkeys(("**",) if patterns is None else patterns)
        if not (kind in _OWN and what.startswith(f"{name}."))
    ]


def missing(wanted: Iterable[Wish], approved: Permissions) -> tuple[Wish, ...]:
    """The requests that were not approved."""
    given = fields_of(approved)
    return tuple((kind, what) for kind, what in wanted if not _is_covered(kind, what, given[kind]))


def _is_covered(kind: str, what: str, approved: tuple[str, ...] | None) -> bool:
    """A pattern covers narrower ones. An address or a path covers itself alone: a path below an approved one may have
    become a link to anywhere since."""
    if approved is None or what in approved:
        return True
    if kind == "limits":
        return is_covered(what, approved)
    if kind == "kernel":
        return what == "observe" and "control" in approved
    return kind in _OF_TOPICS and any(covers(pattern, what) for pattern in approved)


def union(several: Iterable[Permissions]) -> Permissions:
    """All that any of them gives."""
    total = fields_of(NO_PERMISSIONS)
    for each in several:
        for kind, more in fields_of(each).items():
            had = total[kind]
            total[kind] = None if had is None or more is None else tuple(dict.fromkeys((*had, *more)))
    return of_fields(total)


def trusted(declared: Permissions | None, operator: Grant | None) -> Permissions:
    """What holds at ``thread`` and ``process``: what the operator wrote in its place, else what is declared, else
    anything but the kernel itself."""
    if isinstance(operator, Permissions):
        return operator
    return declared if declared is not None else Permissions()


def confined(declared: Permissions | None, operator: Iterable[Grant]) -> Permissions:
    """What holds at ``sandbox`` and ``wasm`` once it is approved: what is declared. For a manifest without a table the
    operator declares."""
    if declared is not None:
        return declared
    return replace(union(each for each in operator if isinstance(each, Permissions)), limits=())


def from_requests(wanted: Iterable[Wish]) -> Permissions:
    """Permissions that grant these, and nothing else."""
    given: dict[str, list[str]] = {}
    for kind, what in wanted:
        given.setdefault(kind, []).append(what)
    return of_fields(given)


def lines(wanted: Iterable[Wish]) -> tuple[str, ...]:
    """As a person reads and approves them: each is one line, in which nothing passes for something else."""
    return tuple(f"{kind} {unmistakable(what)}" for kind, what in wanted)


def is_altered(snapshot: Snapshot, version: str, approval: Approval, pin: str = "version") -> bool:
    """Whether the files are others than those approved, and a new version does not account for that."""
    return approval.digest != snapshot.digest and (pin == "bytes" or approval.version == version)


def changed_files(snapshot: Snapshot, approval: Approval) -> tuple[str, ...]:
    """Which ones, where the approval knows its files."""
    if not approval.files:
        return ()
    return tuple(sorted(_differing(approval.files, snapshot.files)))


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    return (name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
