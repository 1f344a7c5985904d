"""The smallest permissions for the uses found, and the difference from those declared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from microkernel.kernel.manifest import OBSERVING, Permissions
from microkernel.loader.auditor.findings import Finding, Use
from microkernel.loader.shared_tables import PERMISSIONS

# Whether a pattern covers a topic or another pattern. Passed in, because the syntax of topics is not the loader's
# concern.
Covers = Callable[[str, str], bool]
# Whether a plugin has a permission for a value without a grant, for example for its own files and the system's.
IsGiven = Callable[[str, str], bool]
# Permissions by the keys of a manifest. Permissions that are not needed are missing.
Table = Mapping[str, tuple[str, ...]]

_KERNEL = "kernel."
_TOPICS = frozenset({"emit", "on", "call", "data.read", "data.write"})
_OWN = frozenset({"emit", "data.read", "data.write"})


class Change(NamedTuple):
    """``+``: used but not declared; ``-``: declared but not used."""

    sign: Literal["+", "-"]
    permission: str
    value: str


def propose(uses: Iterable[Use], name: str, covers: Covers, is_given: IsGiven) -> Table:
    """Return the smallest table for these uses by the plugin ``name``. Access to its own things needs no line."""
    requested: dict[str, set[str]] = {key: set() for key in PERMISSIONS}
    for use in uses:
        if (found := required_permission(use, name, is_given)) is not None:
            requested[found[0]].add(found[1])
    requested["kernel"] -= {"observe"} if "control" in requested["kernel"] else set()
    return {key: tuple(_smallest(key, values, covers)) for key, values in requested.items() if values}


def required_permission(use: Use, name: str, is_given: IsGiven) -> tuple[str, str] | None:
    """Return the permission that a use needs: None for topics and keys below its own name, ``kernel`` for those of
    the kernel."""
    if is_given(use.permission, use.value):
        return None
    if use.permission in _OWN and use.value.startswith(f"{name}."):
        return None
    if use.permission in ("on", "call") and use.value.startswith(_KERNEL):
        return "kernel", "observe" if use.permission == "on" or use.value in OBSERVING else "control"
    return use.permission, use.value


def compare(declared: Permissions, proposed: Table, covers: Covers, unresolved: Collection[str] = ()) -> list[Change]:
    """Return the differences between declared and proposed permissions.

    If some use of a permission is ``unresolved``, nothing of it is reported as unused, because that use may need it.
    """
    both = {key: (_of(declared, key), proposed.get(key, ())) for key in PERMISSIONS}
    changes = [change for key, (given, used) in both.items() for change in _changes(key, given, used, covers)]
    return [change for change in changes if change.sign == "+" or change.permission not in unresolved]


def undeclared(
    uses: Iterable[Use], name: str, declared: Permissions, covers: Covers, is_given: IsGiven
) -> Iterator[Finding]:
    """Return the uses that would be refused."""
    for use in uses:
        found = required_permission(use, name, is_given)
        if found is not None and not _is_covered(*found, _of(declared, found[0]), covers):
            yield Finding(use.place, "MK0835", {"permission": found[0], "value": use.value})


def _of(declared: Permissions, key: str) -> tuple[str, ...] | None:
    values: tuple[str, ...] | None = getattr(declared, key.replace(".", "_"))
    return values


def _changes(key: str, given: tuple[str, ...] | None, used: tuple[str, ...], covers: Covers) -> Iterator[Change]:
    yield from (Change("+", key, value) for value in used if not _is_covered(key, value, given, covers))
    for value in given or ():
        if key == "net" and "/" in value and used:
            continue  # a used host name may resolve into this network
        if not any(_covers(key, value, each, covers) or _covers(key, each, value, covers) for each in used):
            yield Change("-", key, value)


def _is_covered(key: str, value: str, given: tuple[str, ...] | None, covers: Covers) -> bool:
    return given is None or any(_covers(key, each, value, covers) for each in given)


def _smallest(key: str, values: set[str], covers: Covers) -> Iterator[str]:
    for value in sorted(values):
        if not any(other != value and _covers(key, other, value, covers) for other in values):
            yield value


def _covers(key: str, pattern: str, value: str, covers: Covers) -> bool:
    if key in _TOPICS:
        return covers(pattern, value)
    if key in ("fs.read", "fs.write"):
        return PurePosixPath(pattern) in (PurePosixPath(value), *PurePosixPath(value).parents)
    if key == "net" and "/" in pattern:
        return _is_in_network(pattern, value)
    return (key, pattern) == ("kernel", "control") or fnmatchcase(value, pattern)


def _is_in_network(pattern: str, value: str) -> bool:
    network, _, port = pattern.rpartition(":")
    address, _, on = value.rpartition(":")
    try:
        return port in ("*", on) and ip_address(address.strip("[]")) in ip_network(network.strip("[]"))
    except ValueError:  # a name, or an invalid network
        return False
