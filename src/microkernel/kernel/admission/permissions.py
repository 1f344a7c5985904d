"""Compare the permissions that a plugin requests with those that were approved. Pure.

At the levels of trust, declared permissions are granted. At the confined levels every permission must be declared *and*
approved, except for topics and data keys that begin with the plugin's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from microkernel.kernel.admission.approval_texts import unmistakable
from microkernel.kernel.admission.limit_bounds import is_covered
from microkernel.kernel.manifest import NO_PERMISSIONS, Approval, Level, Permissions
from microkernel.kernel.ports import Snapshot
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.topics import covers

CONFINED: Final[frozenset[Level]] = frozenset({"sandbox", "wasm"})
KINDS: Final = (
    "emit", "on", "call", "data.read", "data.write", "kernel", "net", "fs.read", "fs.write", "env", "limits",
)  # fmt: skip
_OF_TOPICS = frozenset({"emit", "on", "call", "data.read", "data.write"})
# Kinds that every plugin has for names that begin with its own.
_OWN = frozenset({"emit", "data.read", "data.write"})

# An operator's grant: these permissions, or all that the manifest declares.
Grant = Permissions | Literal["declared"]
# A kind of permission and its object: ``("net", "smtp.example.com:587")``.
Wish = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Review:
    """Requests of a plugin compared with its approval, each a line such as ``net smtp.example.com:587``.

    ``added`` was not approved; ``removed`` was approved and is no longer requested. ``altered``: the files have changed
    since this ``version`` was approved; ``changed`` has their names, as far as known. ``digest`` is that of the
    reviewed files.
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
    # Path of the approved plugin of this name, if it differs from ``path``.
    approved_path: str = ""

    @property
    def is_fine(self) -> bool:
        """Return whether there is nothing to approve."""
        return not (self.added or self.altered or self.approved_path)

    @property
    def is_held(self) -> bool:
        """Return whether the plugin must not run before it is approved. If only higher limits are missing, it runs with
        the defaults."""
        return self.altered or bool(self.approved_path) or any(not line.startswith("limits ") for line in self.added)

    @property
    def difference(self) -> tuple[str, ...]:
        """Return added and removed requests as lines of a diff."""
        return (*(f"+ {line}" for line in self.added), *(f"- {line}" for line in self.removed))


def fields_of(permissions: Permissions) -> dict[str, tuple[str, ...] | None]:
    """Return the permissions by kind, in the order in which they are shown; None stands for everything."""
    return {kind: getattr(permissions, kind.replace(".", "_")) for kind in KINDS}


def of_fields(fields: Mapping[str, Iterable[str] | None]) -> Permissions:
    """Return the permissions of a mapping made by `fields_of`; a missing kind grants nothing."""
    values: dict[str, Any] = {kind.replace(".", "_"): () for kind in KINDS}
    for kind, what in fields.items():
        values[kind.replace(".", "_")] = None if what is None else tuple(what)
    return Permissions(**values)


def requested(name: str, asked: Permissions) -> list[Wish]:
    """Return all requests that need an approval: all except those that every plugin has for its own names."""
    return [
        (kind, what)
        for kind, patterns in fields_of(asked).items()
        for what in dict.fromkeys(("**",) if patterns is None else patterns)
        if not (kind in _OWN and what.startswith(f"{name}."))
    ]


def missing(wanted: Iterable[Wish], approved: Permissions) -> tuple[Wish, ...]:
    """Return the requests that were not approved."""
    given = fields_of(approved)
    return tuple((kind, what) for kind, what in wanted if not _is_covered(kind, what, given[kind]))


def _is_covered(kind: str, what: str, approved: tuple[str, ...] | None) -> bool:
    """Return whether a request is approved.

    A topic pattern covers narrower ones. An address or a path covers only itself, because a path below an approved one
    may have become a link to anywhere since.
    """
    if approved is None or what in approved:
        return True
    if kind == "limits":
        return is_covered(what, approved)
    if kind == "kernel":
        return what == "observe" and "control" in approved
    return kind in _OF_TOPICS and any(covers(pattern, what) for pattern in approved)


def union(several: Iterable[Permissions]) -> Permissions:
    """Return everything that any of several permissions grants."""
    total = fields_of(NO_PERMISSIONS)
    for each in several:
        for kind, more in fields_of(each).items():
            had = total[kind]
            total[kind] = None if had is None or more is None else tuple(dict.fromkeys((*had, *more)))
    return of_fields(total)


def trusted(declared: Permissions | None, operator: Grant | None) -> Permissions:
    """Return the permissions at ``thread`` and ``process``: the operator's, else the declared ones, else everything
    except ``kernel``."""
    if isinstance(operator, Permissions):
        return operator
    return declared if declared is not None else Permissions()


def confined(declared: Permissions | None, operator: Iterable[Grant]) -> Permissions:
    """Return the permissions at ``sandbox`` and ``wasm`` once approved: the declared ones. For a manifest without a
    permissions table, the operator declares them."""
    if declared is not None:
        return declared
    return replace(union(each for each in operator if isinstance(each, Permissions)), limits=())


def from_requests(wanted: Iterable[Wish]) -> Permissions:
    """Return permissions that grant exactly these requests."""
    given: dict[str, list[str]] = {}
    for kind, what in wanted:
        given.setdefault(kind, []).append(what)
    return of_fields(given)


def lines(wanted: Iterable[Wish]) -> tuple[str, ...]:
    """Return the requests for the person who approves them: each on one line, without characters that look alike."""
    return tuple(f"{kind} {unmistakable(what)}" for kind, what in wanted)


def is_altered(snapshot: Snapshot, version: str, approval: Approval, pin: str = "version") -> bool:
    """Return whether the files differ from the approved ones, and no new version accounts for that."""
    return approval.digest != snapshot.digest and (pin == "bytes" or approval.version == version)


def changed_files(snapshot: Snapshot, approval: Approval) -> tuple[str, ...]:
    """Return the names of the files that have changed; empty if the approval does not list its files."""
    if not approval.files:
        return ()
    return tuple(sorted(_differing(approval.files, snapshot.files)))


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    return (name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
